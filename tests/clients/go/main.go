// Command clients drives one server with etcd's own Go client and checks every answer. It prints "ok" at the end,
// or what is wrong and exits 1. Usage: clients HOST:PORT; the store must be new, and someone must restart the server
// when told (tests/clients/run.sh).
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const callMax = 10 * time.Second

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: clients HOST:PORT")
		os.Exit(2)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{os.Args[1]}, DialTimeout: callMax})
	if err != nil {
		fail("open: %v", err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*callMax)
	defer cancel()
	for _, check := range []func(context.Context, *clientv3.Client){
		putAndGet, ranges, sorts, revisions, deletes, transactions, compaction, failures, large, concurrent, status, members,
		watches, manyWatches, watchProgress, watchFragments, watchCompacted, watchOverRestart,
		leases, keepAlive, leaseOverRestart, session, mutex, election, stm, queues,
	} {
		check(ctx, client)
	}
	fmt.Println("ok")
}

func fail(format string, args ...any) {
	fmt.Printf("WRONG: "+format+"\n", args...)
	os.Exit(1)
}

func must[T any](value T, err error) T {
	if err != nil {
		fail("%v", err)
	}
	return value
}

func equal[T comparable](what string, got, want T) {
	if got != want {
		fail("%s: got %v, want %v", what, got, want)
	}
}

// keys gives the keys of a response as one string.
func keys(response *clientv3.GetResponse) string {
	var all []string
	for _, kv := range response.Kvs {
		all = append(all, string(kv.Key))
	}
	return strings.Join(all, " ")
}

func putAndGet(ctx context.Context, c *clientv3.Client) {
	first := must(c.Put(ctx, "pg/a", "1"))
	second := must(c.Put(ctx, "pg/a", "2", clientv3.WithPrevKV()))
	equal("revision step", second.Header.Revision, first.Header.Revision+1)
	equal("previous value", string(second.PrevKv.Value), "1")
	kv := must(c.Get(ctx, "pg/a")).Kvs[0]
	equal("value", string(kv.Value), "2")
	equal("version", kv.Version, int64(2))
	equal("create revision", kv.CreateRevision, first.Header.Revision)
	equal("mod revision", kv.ModRevision, second.Header.Revision)
	must(c.Put(ctx, "pg/a", "", clientv3.WithIgnoreValue()))
	equal("kept value", string(must(c.Get(ctx, "pg/a", clientv3.WithSerializable())).Kvs[0].Value), "2")
	equal("missing", must(c.Get(ctx, "pg/none")).Count, int64(0))
}

func ranges(ctx context.Context, c *clientv3.Client) {
	for _, key := range []string{"r/a", "r/b", "r/c", "s"} {
		must(c.Put(ctx, key, "v"))
	}
	equal("prefix", keys(must(c.Get(ctx, "r/", clientv3.WithPrefix()))), "r/a r/b r/c")
	equal("range", keys(must(c.Get(ctx, "r/a", clientv3.WithRange("r/c")))), "r/a r/b")
	equal("from key", keys(must(c.Get(ctx, "r/b", clientv3.WithFromKey()))), "r/b r/c s")
	limited := must(c.Get(ctx, "r/", clientv3.WithPrefix(), clientv3.WithLimit(2)))
	equal("limited", keys(limited), "r/a r/b")
	equal("more", limited.More, true)
	equal("count of limited", limited.Count, int64(3))
	count := must(c.Get(ctx, "r/", clientv3.WithPrefix(), clientv3.WithCountOnly()))
	equal("count", count.Count, int64(3))
	equal("kvs of count", len(count.Kvs), 0)
	keysOnly := must(c.Get(ctx, "r/", clientv3.WithPrefix(), clientv3.WithKeysOnly()))
	equal("keys only", len(keysOnly.Kvs[0].Value), 0)
}

func sorts(ctx context.Context, c *clientv3.Client) {
	for _, pair := range [][2]string{{"o/b", "1"}, {"o/a", "3"}, {"o/c", "2"}} {
		must(c.Put(ctx, pair[0], pair[1]))
	}
	sorted := func(target clientv3.SortTarget, order clientv3.SortOrder) string {
		return keys(must(c.Get(ctx, "o/", clientv3.WithPrefix(), clientv3.WithSort(target, order))))
	}
	equal("by key", sorted(clientv3.SortByKey, clientv3.SortDescend), "o/c o/b o/a")
	equal("by value", sorted(clientv3.SortByValue, clientv3.SortAscend), "o/b o/c o/a")
	equal("by mod", sorted(clientv3.SortByModRevision, clientv3.SortDescend), "o/c o/a o/b")
	equal("by create", sorted(clientv3.SortByCreateRevision, clientv3.SortAscend), "o/b o/a o/c")
	equal("first", keys(must(c.Get(ctx, "o/", clientv3.WithFirstCreate()...))), "o/b")
	equal("last", keys(must(c.Get(ctx, "o/", clientv3.WithLastRev()...))), "o/c")
}

func revisions(ctx context.Context, c *clientv3.Client) {
	old := must(c.Put(ctx, "v", "old")).Header.Revision
	must(c.Put(ctx, "v", "new"))
	equal("old value", string(must(c.Get(ctx, "v", clientv3.WithRev(old))).Kvs[0].Value), "old")
	equal("min mod", must(c.Get(ctx, "v", clientv3.WithMinModRev(old+2))).Count, int64(1))
	equal("min mod kvs", len(must(c.Get(ctx, "v", clientv3.WithMinModRev(old+2))).Kvs), 0)
	equal("max create kvs", len(must(c.Get(ctx, "v", clientv3.WithMaxCreateRev(old))).Kvs), 1)
}

func deletes(ctx context.Context, c *clientv3.Client) {
	for _, key := range []string{"d/a", "d/b"} {
		must(c.Put(ctx, key, "v"))
	}
	response := must(c.Delete(ctx, "d/", clientv3.WithPrefix(), clientv3.WithPrevKV()))
	equal("deleted", response.Deleted, int64(2))
	equal("previous pairs", len(response.PrevKvs), 2)
	equal("deleted again", must(c.Delete(ctx, "d/a")).Deleted, int64(0))
}

func transactions(ctx context.Context, c *clientv3.Client) {
	absent := clientv3.Compare(clientv3.CreateRevision("t"), "=", 0)
	create := func(value string) *clientv3.TxnResponse {
		return must(c.Txn(ctx).If(absent).Then(clientv3.OpPut("t", value)).Else(clientv3.OpGet("t")).Commit())
	}
	equal("created", create("1").Succeeded, true)
	second := create("2")
	equal("created twice", second.Succeeded, false)
	equal("winner", string(second.Responses[0].GetResponseRange().Kvs[0].Value), "1")
	nested := clientv3.OpTxn(
		[]clientv3.Cmp{clientv3.Compare(clientv3.Value("t"), "=", "1")},
		[]clientv3.Op{clientv3.OpPut("t/nested", "yes"), clientv3.OpGet("t/nested")}, nil)
	response := must(c.Txn(ctx).Then(nested).Commit())
	inner := response.Responses[0].GetResponseTxn()
	equal("nested", string(inner.Responses[1].GetResponseRange().Kvs[0].Value), "yes")
	all := clientv3.Compare(clientv3.Version("t").WithPrefix(), ">", 0)
	equal("range compare", must(c.Txn(ctx).If(all).Commit()).Succeeded, true)
}

func compaction(ctx context.Context, c *clientv3.Client) {
	revision := must(c.Put(ctx, "c", "1")).Header.Revision
	must(c.Put(ctx, "c", "2"))
	must(c.Compact(ctx, revision+1, clientv3.WithCompactPhysical()))
	_, err := c.Get(ctx, "c", clientv3.WithRev(revision))
	equal("compacted", errors.Is(err, rpctypes.ErrCompacted), true)
	_, err = c.Compact(ctx, revision+100)
	equal("future", errors.Is(err, rpctypes.ErrFutureRev), true)
}

func failures(ctx context.Context, c *clientv3.Client) {
	_, err := c.Put(ctx, "", "v")
	equal("empty key", errors.Is(err, rpctypes.ErrEmptyKey), true)
	_, err = c.Put(ctx, "none", "", clientv3.WithIgnoreValue())
	equal("key not found", errors.Is(err, rpctypes.ErrKeyNotFound), true)
	_, err = c.Put(ctx, "x", "v", clientv3.WithLease(12345))
	equal("lease", errors.Is(err, rpctypes.ErrLeaseNotFound), true)
	_, err = c.Txn(ctx).Then(clientv3.OpPut("x", "1"), clientv3.OpPut("x", "2")).Commit()
	equal("duplicate", errors.Is(err, rpctypes.ErrDuplicateKey), true)
	_, err = c.Put(ctx, "x", strings.Repeat("v", 1572864))
	equal("too large", errors.Is(err, rpctypes.ErrRequestTooLarge), true)
}

func large(ctx context.Context, c *clientv3.Client) {
	value := bytes.Repeat([]byte{0xff, 0, 'x'}, 450_000)
	for _, key := range []string{"l/1", "l/2", "l/3", "l/4"} {
		must(c.Put(ctx, key, string(value)))
	}
	for _, kv := range must(c.Get(ctx, "l/", clientv3.WithPrefix())).Kvs {
		equal("large value of "+string(kv.Key), bytes.Equal(kv.Value, value), true)
	}
	must(c.Delete(ctx, "l/", clientv3.WithPrefix()))
}

func concurrent(ctx context.Context, c *clientv3.Client) {
	const workers, writes = 50, 40
	done := make(chan error, workers)
	for worker := range workers {
		go func() {
			for write := range writes {
				if _, err := c.Put(ctx, fmt.Sprintf("w/%d/%d", worker, write), "v"); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range workers {
		if err := <-done; err != nil {
			fail("concurrent put: %v", err)
		}
	}
	count := must(c.Get(ctx, "w/", clientv3.WithPrefix(), clientv3.WithCountOnly())).Count
	equal("concurrent puts", count, int64(workers*writes))
}

func status(ctx context.Context, c *clientv3.Client) {
	response := must(c.Status(ctx, c.Endpoints()[0]))
	equal("leader", response.Leader, response.Header.MemberId)
	equal("version", strings.HasPrefix(response.Version, "3."), true)
	equal("db size", response.DbSize > 0, true)
	equal("errors", len(response.Errors), 0)
}

func members(ctx context.Context, c *clientv3.Client) {
	response := must(c.MemberList(ctx))
	equal("members", len(response.Members), 1)
	equal("client URL", response.Members[0].ClientURLs[0], "http://"+c.Endpoints()[0])
	must(1, c.Sync(ctx))
}
