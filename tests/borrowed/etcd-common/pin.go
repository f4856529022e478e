// Package pin names etcd's test framework, so that go.mod and go.sum hold its version; run.sh builds the tests.
package pin

import _ "go.etcd.io/etcd/tests/v3/framework"
