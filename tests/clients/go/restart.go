package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

var answers = bufio.NewReader(os.Stdin)

// restart has the server killed and started again by who started this program, and waits until it serves.
func restart(ctx context.Context, c *clientv3.Client) {
	fmt.Println("restart")
	must(answers.ReadString('\n'))
	for {
		if _, err := c.Get(ctx, "any"); err == nil {
			return
		} else if ctx.Err() != nil {
			fail("after the restart: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func watchOverRestart(ctx context.Context, c *clientv3.Client) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	const writes = 100
	var want []string
	put := func(key, value string) {
		must(c.Put(ctx, key, value))
		want = append(want, fmt.Sprintf("PUT %s=%s", key, value))
	}
	watch := c.Watch(ctx, "wr/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	equal("created", (<-watch).Created, true)
	for n := range writes {
		put(fmt.Sprintf("wr/%d", n), "before")
	}
	// What the watch has not read yet is cut off.
	restart(ctx, c)
	for n := range writes {
		put(fmt.Sprintf("wr/%d", n), "after")
	}
	must(c.Delete(ctx, "wr/0"))
	want = append(want, "DELETE wr/0=")
	equal("events", events(watch, len(want)), strings.Join(want, ", "))
}

func leaseOverRestart(ctx context.Context, c *clientv3.Client) {
	session := must(concurrency.NewSession(c, concurrency.WithTTL(5)))
	must(c.Put(ctx, "lr/session", "v", clientv3.WithLease(session.Lease())))
	lease := must(c.Grant(ctx, 1000)).ID
	must(c.Put(ctx, "lr/a", "v", clientv3.WithLease(lease)))
	restart(ctx, c)
	left := must(c.TimeToLive(ctx, lease, clientv3.WithAttachedKeys()))
	equal("granted TTL", left.GrantedTTL, int64(1000))
	equal("time left", left.TTL > 900 && left.TTL <= 1000, true)
	equal("attached keys", fmt.Sprintf("%s", left.Keys), "[lr/a]")
	must(c.Revoke(ctx, lease))
	// Longer than the session would live if it were not kept alive.
	time.Sleep(6 * time.Second)
	select {
	case <-session.Done():
		fail("the session ended with the server")
	default:
	}
	equal("keys", keys(must(c.Get(ctx, "lr/", clientv3.WithPrefix()))), "lr/session")
	must(0, session.Close())
}
