package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// events reads n events of a watch, one text each.
func events(watch clientv3.WatchChan, n int) string {
	var all []string
	for len(all) < n {
		select {
		case response := <-watch:
			if err := response.Err(); err != nil {
				fail("watch ended after %v: %v", all, err)
			}
			for _, event := range response.Events {
				text := fmt.Sprintf("%s %s=%s", event.Type, event.Kv.Key, event.Kv.Value)
				if event.PrevKv != nil {
					text += " was " + string(event.PrevKv.Value)
				}
				all = append(all, text)
			}
		case <-time.After(callMax):
			fail("%d events, then nothing: %v", len(all), all)
		}
	}
	return strings.Join(all, ", ")
}

func watches(ctx context.Context, c *clientv3.Client) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	first := must(c.Put(ctx, "w/a", "0")).Header.Revision
	live := c.Watch(ctx, "w/", clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithCreatedNotify())
	equal("created", (<-live).Created, true)
	puts := c.Watch(ctx, "w/", clientv3.WithPrefix(), clientv3.WithFilterDelete())
	deletes := c.Watch(ctx, "w/", clientv3.WithPrefix(), clientv3.WithFilterPut())
	past := c.Watch(ctx, "w/a", clientv3.WithRev(first))
	equal("past", events(past, 1), "PUT w/a=0")
	must(c.Put(ctx, "w/a", "1"))
	must(c.Put(ctx, "w/b", "2"))
	must(c.Delete(ctx, "w/a"))
	equal("live", events(live, 3), "PUT w/a=1 was 0, PUT w/b=2, DELETE w/a= was 1")
	equal("puts", events(puts, 2), "PUT w/a=1, PUT w/b=2")
	equal("deletes", events(deletes, 1), "DELETE w/a=")
	equal("past, live", events(past, 2), "PUT w/a=1, DELETE w/a=")
	future := c.Watch(ctx, "w/b", clientv3.WithRev(first+5))
	must(c.Put(ctx, "w/b", "3"))
	must(c.Put(ctx, "w/b", "4"))
	equal("future", events(future, 1), "PUT w/b=4")
}

func manyWatches(ctx context.Context, c *clientv3.Client) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	const count = 500
	var watchers []clientv3.WatchChan
	for n := range count {
		watchers = append(watchers, c.Watch(ctx, fmt.Sprintf("mw/%d", n), clientv3.WithCreatedNotify()))
	}
	for _, watch := range watchers {
		equal("created", (<-watch).Created, true)
	}
	for n := range count {
		must(c.Put(ctx, fmt.Sprintf("mw/%d", n), "v"))
	}
	for n, watch := range watchers {
		equal("own event", events(watch, 1), fmt.Sprintf("PUT mw/%d=v", n))
	}
}

func watchProgress(ctx context.Context, c *clientv3.Client) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watch := c.Watch(ctx, "wp/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-watch
	revision := must(c.Put(ctx, "other", "v")).Header.Revision
	if err := c.RequestProgress(ctx); err != nil {
		fail("request progress: %v", err)
	}
	response := <-watch
	equal("is progress", response.IsProgressNotify(), true)
	equal("progress", response.Header.Revision, revision)
}

func watchFragments(ctx context.Context, c *clientv3.Client) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	value := strings.Repeat("x", 1<<20)
	first := must(c.Put(ctx, "wf", value)).Header.Revision
	for range 4 {
		must(c.Put(ctx, "wf", value))
	}
	for _, options := range [][]clientv3.OpOption{{}, {clientv3.WithFragment()}} {
		watch := c.Watch(ctx, "wf", append(options, clientv3.WithRev(first))...)
		equal("length", len(events(watch, 5)), 5*(1<<20)+5*len("PUT wf=")+4*len(", "))
	}
}

func watchCompacted(ctx context.Context, c *clientv3.Client) {
	must(c.Put(ctx, "wc", "1"))
	revision := must(c.Put(ctx, "wc", "2")).Header.Revision
	must(c.Compact(ctx, revision))
	equal("at the compaction", events(c.Watch(ctx, "wc", clientv3.WithRev(revision)), 1), "PUT wc=2")
	response := <-c.Watch(ctx, "wc", clientv3.WithRev(revision-1))
	equal("compacted", response.Err(), error(rpctypes.ErrCompacted))
	equal("compact revision", response.CompactRevision, revision)
}
