package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// The shortest that etcd grants with its default timeouts, in seconds.
const ttl = 2

func leases(ctx context.Context, c *clientv3.Client) {
	granted := must(c.Grant(ctx, 1))
	equal("a TTL below the least", granted.TTL, int64(ttl))
	must(c.Revoke(ctx, granted.ID))
	lease := must(c.Grant(ctx, 1000)).ID
	for _, key := range []string{"ls/b", "ls/a", "ls/moved"} {
		must(c.Put(ctx, key, "v", clientv3.WithLease(lease)))
	}
	must(c.Put(ctx, "ls/moved", "w"))
	must(c.Put(ctx, "ls/a", "w", clientv3.WithIgnoreLease()))
	equal("the lease of a key", must(c.Get(ctx, "ls/a")).Kvs[0].Lease, int64(lease))
	equal("leases", fmt.Sprint(must(c.Leases(ctx)).Leases), fmt.Sprint([]clientv3.LeaseStatus{{ID: lease}}))
	left := must(c.TimeToLive(ctx, lease, clientv3.WithAttachedKeys()))
	// Their order is open.
	slices.SortFunc(left.Keys, bytes.Compare)
	equal("attached keys", fmt.Sprintf("%s", left.Keys), "[ls/a ls/b]")
	before := must(c.Put(ctx, "other", "v")).Header.Revision
	equal("revision of a revocation", must(c.Revoke(ctx, lease)).Header.Revision, before+1)
	equal("what is left", keys(must(c.Get(ctx, "ls/", clientv3.WithPrefix()))), "ls/moved")
	_, err := c.Revoke(ctx, lease)
	equal("revoked twice", errors.Is(err, rpctypes.ErrLeaseNotFound), true)
	equal("TTL of a lease that is gone", must(c.TimeToLive(ctx, lease)).TTL, int64(-1))
	_, err = c.KeepAliveOnce(ctx, lease)
	equal("renewal of a lease that is gone", errors.Is(err, rpctypes.ErrLeaseNotFound), true)
}

func keepAlive(ctx context.Context, c *clientv3.Client) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watch := c.Watch(ctx, "ka/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-watch
	lease := must(c.Grant(ctx, ttl)).ID
	must(c.Put(ctx, "ka/a", "v", clientv3.WithLease(lease)))
	must(c.Put(ctx, "ka/b", "v", clientv3.WithLease(lease)))
	equal("puts", events(watch, 2), "PUT ka/a=v, PUT ka/b=v")
	keeping, stop := context.WithCancel(ctx)
	renewals := must(c.KeepAlive(keeping, lease))
	for end := time.After(2 * ttl * time.Second); end != nil; {
		select {
		case renewal := <-renewals:
			equal("TTL of a renewal", renewal.TTL, int64(ttl))
		case response := <-watch:
			fail("an event while the lease is kept alive: %v", response.Events)
		case <-end:
			end = nil
		}
	}
	stop()
	stopped := time.Now()
	response := <-watch
	equal("events of the expiry", len(response.Events), 2)
	for n, key := range []string{"ka/a", "ka/b"} {
		event := response.Events[n]
		equal("expired", fmt.Sprintf("%s %s", event.Type, event.Kv.Key), "DELETE "+key)
		equal("its one revision", event.Kv.ModRevision, response.Header.Revision)
	}
	// The client renews each third of the TTL.
	took := time.Since(stopped)
	equal(fmt.Sprintf("expiry after %v in time", took), took > ttl*time.Second/2 && took < 3*ttl*time.Second, true)
}
