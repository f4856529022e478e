// Drives one server with Node's etcd3 client. Prints "ok" at the end, or what is wrong and exits 1.
// Usage: client.js HOST:PORT; the store must be new, and someone must restart the server when told
// (tests/clients/run.sh).
'use strict';

const assert = require('node:assert');
const readline = require('node:readline');
const { setTimeout: sleep } = require('node:timers/promises');
const { Etcd3, EtcdLeaseInvalidError } = require('etcd3');

const CALL_MAX = 10_000;
const WRITES = 100;
// The shortest that etcd grants with its default timeouts, in seconds.
const TTL = 2;

const answers = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

// Has the server killed and started again, and waits until it serves.
async function restartServer(client) {
  console.log('restart');
  await answers.next();
  const end = Date.now() + CALL_MAX;
  for (;;) {
    try {
      return await client.get('any').string();
    } catch (error) {
      if (Date.now() > end) throw error;
      await sleep(50);
    }
  }
}

async function put(client, key, value) {
  return BigInt((await client.put(key).value(value)).header.revision);
}

// A watch of a prefix from a revision on; `take` gives its next events, each as text.
class Watch {
  events = [];
  breaks = 0;

  static async open(client, prefix, revision) {
    const watch = new Watch();
    watch.watcher = client.watch().prefix(prefix).startRevision(revision.toString()).watcher();
    watch.watcher.on('put', kv => watch.note('put', kv));
    watch.watcher.on('delete', kv => watch.note('delete', kv));
    watch.watcher.on('disconnected', () => (watch.breaks += 1));
    await new Promise((resolve, reject) => watch.watcher.once('connected', resolve).once('error', reject));
    return watch;
  }

  note(type, kv) {
    this.events.push(`${type} ${kv.key}=${kv.value} at ${kv.mod_revision}`);
  }

  async take(count) {
    for (const end = Date.now() + 2 * CALL_MAX; this.events.length < count; await sleep(20)) {
      assert(Date.now() < end, `${count} events wanted, there are ${this.events}`);
    }
    return this.events.splice(0, count);
  }
}

async function putAndGet(client) {
  const first = await put(client, 'pg/a', '1');
  assert.strictEqual(await put(client, 'pg/a', '2'), first + 1n, 'revision step');
  const bytes = Buffer.from([...Array(256).keys()]);
  await put(client, 'pg/b', bytes);
  assert.deepStrictEqual(await client.getAll().prefix('pg/').buffers(), { 'pg/a': Buffer.from('2'), 'pg/b': bytes });
  assert.strictEqual(await client.get('pg/a').revision(first.toString()).string(), '1', 'the revision before');
  assert.strictEqual(await client.get('pg/none').string(), null, 'missing');
  await assert.rejects(async () => client.get('pg/a').revision((first + 100n).toString()).string(), /future revision/);
  const create = value => client.if('pg/c', 'Create', '==', 0).then(client.put('pg/c').value(value)).commit();
  assert.strictEqual((await create('1')).succeeded, true, 'created');
  assert.strictEqual((await create('2')).succeeded, false, 'created twice');
}

async function watchOverRestart(client) {
  const first = (await put(client, 'other', 'v')) + 1n;
  const watch = await Watch.open(client, 'w/', first);
  const want = [];
  const write = async value => {
    for (let n = 0; n < WRITES; n += 1) {
      await put(client, `w/${n}`, value);
      want.push(`put w/${n}=${value} at ${first + BigInt(want.length)}`);
    }
  };
  await write('before');
  // What the watch has not read yet is cut off.
  await restartServer(client);
  await write('after');
  await client.delete().key('w/0');
  want.push(`delete w/0= at ${first + BigInt(want.length)}`);
  assert.deepStrictEqual(await watch.take(want.length), want, 'events');
  assert(watch.breaks > 0, 'the watch broke');
  await watch.watcher.cancel();
  assert.deepStrictEqual(watch.events, [], 'events twice');
}

async function lease(client) {
  const first = (await put(client, 'other', 'v')) + 1n;
  const watch = await Watch.open(client, 'l/', first);
  // The client renews it by itself, each third of the TTL.
  const lease = client.lease(TTL);
  let renewals = 0;
  lease.on('keepaliveSucceeded', answer => {
    assert.strictEqual(answer.TTL, `${TTL}`, 'TTL of a renewal');
    renewals += 1;
  });
  await lease.put('l/a').value('v');
  await lease.put('l/b').value('v');
  await sleep(2 * TTL * 1000);
  const ID = await lease.grant();
  const kept = await client.leaseClient.leaseTimeToLive({ ID, keys: true });
  assert.deepStrictEqual(kept.keys.map(String).sort(), ['l/a', 'l/b'], 'keys of a lease that is kept alive');
  assert(renewals > 3, `${renewals} renewals`);
  assert.deepStrictEqual(await watch.take(2), [`put l/a=v at ${first}`, `put l/b=v at ${first + 1n}`]);
  lease.release();
  const released = Date.now();
  const expiry = [`delete l/a= at ${first + 2n}`, `delete l/b= at ${first + 2n}`];
  assert.deepStrictEqual(await watch.take(2), expiry, 'expiry');
  assert(Date.now() - released > (TTL * 1000) / 2, 'expired early');
  assert.strictEqual((await client.leaseClient.leaseTimeToLive({ ID })).TTL, '-1', 'TTL of an expired lease');
  await assert.rejects(() => lease.keepaliveOnce(), EtcdLeaseInvalidError);
}

async function leaseOverRestart(client) {
  const lease = client.lease(1000, { autoKeepAlive: false });
  await lease.put('lr').value('v');
  const ID = await lease.grant();
  await restartServer(client);
  const after = await client.leaseClient.leaseTimeToLive({ ID, keys: true });
  assert.strictEqual(after.grantedTTL, '1000', 'granted');
  assert(after.TTL > 900 && after.TTL <= 1000, `${after.TTL} seconds left`);
  assert.deepStrictEqual(after.keys.map(String), ['lr'], 'keys');
  await lease.revoke();
  assert.strictEqual(await client.get('lr').string(), null, 'after the revocation');
}

async function main() {
  assert(process.argv.length === 3, 'usage: client.js HOST:PORT');
  const client = new Etcd3({ hosts: `http://${process.argv[2]}` });
  for (const check of [putAndGet, watchOverRestart, lease, leaseOverRestart]) {
    await check(client);
  }
  console.log('ok');
  process.exit(0);
}

main().catch(error => {
  console.log(`WRONG: ${error.message.replaceAll('\n', ' ')}`);
  console.error(error);
  process.exit(1);
});
