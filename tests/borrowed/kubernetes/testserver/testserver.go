// Package testserver stands in for k8s.io/apiserver/pkg/storage/etcd3/testserver: same functions, but the server is a
// program of its own, named by ETCD_UNDER_TEST, where the original embeds etcd. So the tests of apiserver judge any
// etcd-compatible server, each on a new one. run.sh puts this file in the place of the original.
package testserver

import (
	"bytes"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
)

const (
	startMax  = 60 * time.Second
	dialMax   = 10 * time.Second
	readyLine = "ready to serve client requests"
)

// NewTestConfig names one member's free ports and its data directory. Tests change a few fields of it; arguments says
// which of them reach the server.
func NewTestConfig(t testing.TB) *embed.Config {
	t.Helper()
	client, peer := freeURL(t), freeURL(t)
	config := embed.NewConfig()
	// As the original: some tests allow a compaction 100 ms.
	config.UnsafeNoFsync = true
	config.Dir = filepath.Join(t.TempDir(), "data")
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	return config
}

// RunEtcd starts the server and returns a client that records what it sends, as the original does. The server ends
// with the test; that it ended before fails the test.
func RunEtcd(t testing.TB, config *embed.Config) *kubernetes.Client {
	t.Helper()
	if config == nil {
		config = NewTestConfig(t)
	}
	start(t, arguments(config))
	tls, err := config.ClientTLSInfo.ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.New(clientv3.Config{
		TLS:         tls,
		Endpoints:   strings.Split(join(config.AdvertiseClientUrls), ","),
		DialTimeout: dialMax,
		Logger:      zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	recorder := storagetesting.NewKubernetesRecorder(client.Kubernetes)
	client.KV = storagetesting.NewKVRecorder(client.KV, recorder)
	client.Kubernetes = recorder
	return client
}

// arguments is the command line for all that the tests of apiserver set.
func arguments(config *embed.Config) []string {
	arguments := []string{
		"--name=" + config.Name,
		"--data-dir=" + config.Dir,
		"--listen-client-urls=" + join(config.ListenClientUrls),
		"--advertise-client-urls=" + join(config.AdvertiseClientUrls),
		"--listen-peer-urls=" + join(config.ListenPeerUrls),
		"--initial-advertise-peer-urls=" + join(config.AdvertisePeerUrls),
		"--initial-cluster=" + config.InitialCluster,
	}
	for _, flag := range []struct {
		name, value string
		given       bool
	}{
		{"unsafe-no-fsync", "true", config.UnsafeNoFsync},
		{"quota-backend-bytes", strconv.FormatInt(config.QuotaBackendBytes, 10), config.QuotaBackendBytes != 0},
		{
			"watch-progress-notify-interval", config.WatchProgressNotifyInterval.String(),
			config.WatchProgressNotifyInterval != 0,
		},
		{"cert-file", config.ClientTLSInfo.CertFile, config.ClientTLSInfo.CertFile != ""},
		{"key-file", config.ClientTLSInfo.KeyFile, config.ClientTLSInfo.KeyFile != ""},
		{"trusted-ca-file", config.ClientTLSInfo.TrustedCAFile, config.ClientTLSInfo.TrustedCAFile != ""},
	} {
		if flag.given {
			arguments = append(arguments, "--"+flag.name+"="+flag.value)
		}
	}
	return arguments
}

// start returns when the server has said that it is ready.
func start(t testing.TB, arguments []string) {
	t.Helper()
	program := os.Getenv("ETCD_UNDER_TEST")
	if program == "" {
		t.Fatal("ETCD_UNDER_TEST names no server")
	}
	log := filepath.Join(t.TempDir(), "log")
	file, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(program, arguments...)
	command.Stdout, command.Stderr = file, file
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	file.Close()
	ended := make(chan struct{})
	go func() {
		command.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		select {
		case <-ended:
			t.Errorf("the server ended by itself: %v\n%s", command.ProcessState, tail(log))
		default:
			command.Process.Kill()
			<-ended
		}
	})
	for deadline := time.Now().Add(startMax); ; time.Sleep(5 * time.Millisecond) {
		said, _ := os.ReadFile(log)
		if bytes.Contains(said, []byte(readyLine)) {
			return
		}
		select {
		case <-ended:
			t.Fatal("the server did not start")
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server was not ready after %v:\n%s", startMax, tail(log))
		}
	}
}

// freeURL has a port that nobody listens on now. Another process may take it before the server does; ports of the
// kernel's choice come in turn, so that is rare.
func freeURL(t testing.TB) url.URL {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return url.URL{Scheme: "http", Host: listener.Addr().String()}
}

func join(urls []url.URL) string {
	var list []string
	for _, url := range urls {
		list = append(list, url.String())
	}
	return strings.Join(list, ",")
}

// tail is the end of a log, for a person to read.
func tail(log string) []byte {
	const bytesMax = 4096
	text, _ := os.ReadFile(log)
	return text[max(0, len(text)-bytesMax):]
}
