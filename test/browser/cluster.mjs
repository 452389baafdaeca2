// What people do in a browser on a real cluster; started by
// test/cluster/dashboard_test.go, which has the cluster and the dashboards:
//   node cluster.mjs SCENE FACTS
// SCENE is one of those below, FACTS what it is told, as JSON. What a scene asks
// of the cluster it writes as a line "> WORDS", and goes on when a line comes back.
import assert from 'node:assert/strict';
import net from 'node:net';
import { createInterface } from 'node:readline';
import { launch, until, visitor } from './browser.mjs';
import { approves, looksAtAll, losesTheConnection, seesDecisionOf, seesPromoted, seesTakenBack, takesBackByKeyboard } from './people.mjs';

/** A dashboard as its visitor has it, with a line to it that can be cut. */
class Cluster {
  static async at(url, ns) {
    const c = new Cluster();
    const there = new URL(url);
    c.token = there.searchParams.get('token');
    c.ns = ns;
    c.open = new Set();
    c.server = net.createServer((near) => {
      if (c.broken) return near.destroy();
      const far = net.connect(Number(there.port), there.hostname);
      for (const [a, b] of [[near, far], [far, near]]) {
        c.open.add(a);
        a.on('error', () => {}).on('close', () => (c.open.delete(a), b.destroy()));
        a.pipe(b);
      }
    });
    await new Promise((r) => c.server.listen(0, '127.0.0.1', r));
    c.root = `http://127.0.0.1:${c.server.address().port}`;
    c.direct = there.origin;
    return c;
  }

  get list() {
    return `${this.root}/?token=${this.token}`;
  }

  get detail() {
    return `${this.list}#/r/${this.ns}/my-app`;
  }

  async view() {
    const r = await fetch(`${this.direct}/_serin/v1/rollouts/my-app?namespace=${this.ns}`, { headers: { Authorization: `Bearer ${this.token}` } });
    assert.equal(r.status, 200);
    return r.json();
  }

  cut() {
    this.broken = true;
    for (const s of this.open) s.destroy();
  }

  mend() {
    this.broken = false;
  }

  close() {
    this.cut();
    return new Promise((r) => this.server.close(r));
  }
}

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
async function asks(...words) {
  console.log('> ' + words.join(' '));
  const { done } = await answers.next();
  assert.ok(!done, 'the cluster answers: ' + words.join(' '));
}

const scenes = {
  /** One approves, one may only look, one has signed in. */
  async approval(b, { alice, bob, window, token, ns }) {
    const { page: looks } = await visitor(b);
    await looks.goto(bob);
    await looks.getByRole('link', { name: /my-app/ }).click();
    await looks.getByRole('heading', { name: 'v2 waits for an approval' }).waitFor();
    assert.equal(await looks.getByRole('group', { name: 'Actions' }).count(), 0, 'who may only look has no button');

    const { page: carol } = await visitor(b);
    await carol.goto(window);
    await carol.getByLabel('Token').fill(token);
    await carol.getByRole('button', { name: 'Sign in' }).click();
    await carol.getByRole('link', { name: /my-app/ }).click();
    await carol.getByRole('button', { name: 'Approve', exact: true }).waitFor();

    const { page } = await visitor(b);
    await page.goto(`${alice}#/r/${ns}/my-app`);
    await approves(page, { reason: 'reviewed in a browser' });
    for (const p of [page, looks, carol]) await seesDecisionOf(p, 'alice', 'reviewed in a browser');
    await until('everybody is shown its end', async () => {
      const heads = await Promise.all([page, looks, carol].map((p) => p.locator('.headline').textContent()));
      return heads.every((h) => h === 'v2 has all the traffic');
    });
  },

  /** A good release to its end, a bad one, and one that stands still while things happen to its viewer. */
  async story(b, { alice, ns }) {
    const host = await Cluster.at(alice, ns);
    try {
      const { page, wrong } = await visitor(b, { reducedMotion: 'reduce' });
      await page.goto(host.list);
      await page.getByRole('link', { name: /my-app/ }).click();
      await page.getByRole('heading', { name: 'v1 has all the traffic' }).waitFor();

      await asks('release', 'v2');
      await seesPromoted(page, { version: 'v2', weights: ['10%', '50%', '100%'] });
      await until('v2 is stable', async () => (await host.view()).phase === 'Idle');
      await asks('release', 'v3', 'bad');
      await seesTakenBack(page, { version: 'v3', before: 'v2' });
      await until('v3 is gone', async () => (await host.view()).phase === 'Idle');

      await asks('plan', 'long');
      await asks('release', 'v4');
      await page.locator('.arm.right', { hasText: 'v4' }).filter({ hasText: '10' }).waitFor();
      await until('v4 has its share', async () => (await host.view()).live);
      await looksAtAll(page, host);
      await losesTheConnection(page, host, {
        cut: () => host.cut(),
        back: async (reason) => {
          await asks('pause', reason);
          await until('it is paused', async () => (await host.view()).paused);
          host.mend();
        },
      });
      await takesBackByKeyboard(page, host, 'v4');
      assert.deepEqual(wrong, []);
    } finally {
      await host.close();
    }
  },
};

const [scene, facts] = process.argv.slice(2);
const b = await launch();
try {
  await scenes[scene](b, JSON.parse(facts));
} finally {
  await b.close();
  process.stdin.destroy();
}
