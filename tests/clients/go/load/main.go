// Command load puts or gets random keys with etcd's own Go client as fast as the server answers, for the comparison in
// benches/. Each connection is a client of its own with so many callers. It prints how many calls were answered, in how
// many seconds, and their median and 99th percentile in microseconds.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// A call that takes longer is a failure.
const callMax = 30 * time.Second

func main() {
	endpoint := flag.String("endpoint", "", "HOST:PORT")
	method := flag.String("method", "get", "put or get")
	connections := flag.Int("connections", 1, "clients")
	callers := flag.Int("callers", 1, "callers of each client")
	keys := flag.Uint64("keys", 1, "keys in the store")
	valueLen := flag.Int("value", 256, "bytes of a value")
	duration := flag.Duration("duration", time.Second, "for how long")
	seed := flag.Uint64("seed", 0, "chooses the keys")
	flag.Parse()

	value := strings.Repeat("v", *valueLen)
	put := func(ctx context.Context, client *clientv3.Client, key string) error {
		_, err := client.Put(ctx, key, value)
		return err
	}
	get := func(ctx context.Context, client *clientv3.Client, key string) error {
		response, err := client.Get(ctx, key)
		if err == nil && len(response.Kvs) != 1 {
			err = fmt.Errorf("%s is not there", key)
		}
		return err
	}
	call, known := map[string]func(context.Context, *clientv3.Client, string) error{"put": put, "get": get}[*method]
	if !known {
		fail(fmt.Errorf("%s is neither put nor get", *method))
	}

	ctx, cancel := context.WithTimeout(context.Background(), *duration+callMax)
	defer cancel()
	clients := make([]*clientv3.Client, *connections)
	for i := range clients {
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{*endpoint}, DialTimeout: callMax})
		if err != nil {
			fail(err)
		}
		defer client.Close()
		// The first call connects.
		if _, err := client.Get(ctx, keyOf(0)); err != nil {
			fail(err)
		}
		clients[i] = client
	}

	latencies := make([][]time.Duration, *connections**callers)
	var done sync.WaitGroup
	began := time.Now()
	for i := range latencies {
		done.Go(func() {
			random := rand.New(rand.NewPCG(*seed, uint64(i)))
			client := clients[i%len(clients)]
			for time.Since(began) < *duration {
				sent := time.Now()
				if err := call(ctx, client, keyOf(random.Uint64N(*keys))); err != nil {
					fail(err)
				}
				latencies[i] = append(latencies[i], time.Since(sent))
			}
		})
	}
	done.Wait()
	seconds := time.Since(began).Seconds()
	all := slices.Concat(latencies...)
	slices.Sort(all)
	at := func(quantile float64) float64 {
		return float64(all[int(float64(len(all)-1)*quantile)].Nanoseconds()) / 1e3
	}
	fmt.Printf("answered %d seconds %.6f p50_us %.1f p99_us %.1f\n", len(all), seconds, at(0.5), at(0.99))
}

// keyOf gives the key with this number that benches/src/load/workload.rs gives: the first output of SplitMix64 in hex.
func keyOf(number uint64) string {
	word := number + 0x9e3779b97f4a7c15
	word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9
	word = (word ^ (word >> 27)) * 0x94d049bb133111eb
	return fmt.Sprintf("%016x", word^(word>>31))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "load:", err)
	os.Exit(1)
}
