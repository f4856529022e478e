package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"
)

// sessions opens n sessions, and gives what closes them.
func sessions(c *clientv3.Client, n int) ([]*concurrency.Session, func()) {
	var all []*concurrency.Session
	for range n {
		all = append(all, must(concurrency.NewSession(c, concurrency.WithTTL(30))))
	}
	return all, func() {
		for _, session := range all {
			must(0, session.Close())
		}
	}
}

// together runs work(0) to work(n-1) at the same time, until all have ended.
func together(n int, work func(int)) {
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { work(i) })
	}
	group.Wait()
}

func session(ctx context.Context, c *clientv3.Client) {
	session := must(concurrency.NewSession(c, concurrency.WithTTL(ttl)))
	must(c.Put(ctx, "se/closed", "v", clientv3.WithLease(session.Lease())))
	must(0, session.Close())
	equal("keys of a closed session", must(c.Get(ctx, "se/closed")).Count, int64(0))
	<-session.Done()
	orphan := must(concurrency.NewSession(c, concurrency.WithTTL(ttl)))
	watch := c.Watch(ctx, "se/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-watch
	must(c.Put(ctx, "se/orphan", "v", clientv3.WithLease(orphan.Lease())))
	orphan.Orphan()
	equal("an orphan's key", events(watch, 2), "PUT se/orphan=v, DELETE se/orphan=")
}

func mutex(ctx context.Context, c *clientv3.Client) {
	const owners, rounds = 5, 10
	all, closeAll := sessions(c, owners)
	defer closeAll()
	// Only the mutex keeps increments from being lost.
	must(c.Put(ctx, "mx/count", "0"))
	together(owners, func(owner int) {
		mutex := concurrency.NewMutex(all[owner], "mx/lock")
		for range rounds {
			must(0, mutex.Lock(ctx))
			count := must(strconv.Atoi(string(must(c.Get(ctx, "mx/count")).Kvs[0].Value)))
			response := must(c.Txn(ctx).If(mutex.IsOwner()).Then(clientv3.OpPut("mx/count", strconv.Itoa(count+1))).Commit())
			equal("the owner of the lock", response.Succeeded, true)
			must(0, mutex.Unlock(ctx))
		}
	})
	equal("increments", string(must(c.Get(ctx, "mx/count")).Kvs[0].Value), strconv.Itoa(owners*rounds))
	first, second := concurrency.NewMutex(all[0], "mx/try"), concurrency.NewMutex(all[1], "mx/try")
	must(0, first.TryLock(ctx))
	equal("try what is locked", errors.Is(second.TryLock(ctx), concurrency.ErrLocked), true)
	must(0, first.Unlock(ctx))
	must(0, second.TryLock(ctx))
}

func election(ctx context.Context, c *clientv3.Client) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all, closeAll := sessions(c, 2)
	defer closeAll()
	first, second := concurrency.NewElection(all[0], "el"), concurrency.NewElection(all[1], "el")
	_, err := first.Leader(ctx)
	equal("no leader", errors.Is(err, concurrency.ErrElectionNoLeader), true)
	observed := second.Observe(ctx)
	must(0, first.Campaign(ctx, "one"))
	equal("observed", string((<-observed).Kvs[0].Value), "one")
	must(0, first.Proclaim(ctx, "one again"))
	equal("observed", string((<-observed).Kvs[0].Value), "one again")
	won := make(chan error, 1)
	go func() { won <- second.Campaign(ctx, "two") }()
	select {
	case err := <-won:
		fail("two leaders: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	equal("leader", string(must(second.Leader(ctx)).Kvs[0].Value), "one again")
	must(0, first.Resign(ctx))
	must(0, <-won)
	equal("observed", string((<-observed).Kvs[0].Value), "two")
	equal("a proclamation of who resigned", errors.Is(first.Proclaim(ctx, "three"), concurrency.ErrElectionNotLeader), true)
}

func stm(ctx context.Context, c *clientv3.Client) {
	const accounts, tellers, transfers = 4, 6, 15
	account := func(n int) string { return fmt.Sprintf("stm/%d", n%accounts) }
	for _, isolation := range []concurrency.Isolation{
		concurrency.SerializableSnapshot, concurrency.Serializable, concurrency.RepeatableReads,
	} {
		for n := range accounts {
			must(c.Put(ctx, account(n), "100"))
		}
		together(tellers, func(teller int) {
			for n := range transfers {
				from, to := account(teller+n), account(teller+2*n+1)
				must(concurrency.NewSTM(c, func(s concurrency.STM) error {
					fromBalance := must(strconv.Atoi(s.Get(from)))
					s.Put(from, strconv.Itoa(fromBalance-n))
					s.Put(to, strconv.Itoa(must(strconv.Atoi(s.Get(to)))+n))
					return nil
				}, concurrency.WithIsolation(isolation)))
			}
		})
		sum := 0
		for _, kv := range must(c.Get(ctx, "stm/", clientv3.WithPrefix())).Kvs {
			sum += must(strconv.Atoi(string(kv.Value)))
		}
		equal("sum of all accounts", sum, accounts*100)
	}
}

func queues(ctx context.Context, c *clientv3.Client) {
	queue := recipe.NewQueue(c, "qu")
	priorities := recipe.NewPriorityQueue(c, "pq")
	taken := make(chan string)
	go func() { taken <- must(queue.Dequeue()) }()
	must(0, queue.Enqueue("first"))
	equal("dequeued", <-taken, "first")
	for n, priority := range []uint16{7, 1, 5} {
		must(0, priorities.Enqueue(strconv.Itoa(n), priority))
	}
	for _, want := range []string{"1", "2", "0"} {
		equal("by priority", must(priorities.Dequeue()), want)
	}
	all, closeAll := sessions(c, 2)
	defer closeAll()
	together(len(all), func(n int) {
		barrier := recipe.NewDoubleBarrier(all[n], "barrier", len(all))
		must(0, barrier.Enter())
		must(0, barrier.Leave())
	})
}
