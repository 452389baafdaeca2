// A real daemon with real processes, real traffic and a real browser. Every
// test has a world of its own, and leaves nothing behind.
import { spawn } from 'node:child_process';
import { mkdtemp, mkdir, writeFile, rename, readFile, rm } from 'node:fs/promises';
import http from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { launch, project, until, visitor } from './browser.mjs';

export const serin = process.env.SERIN ?? path.join(project, 'bin/serin');
export const objects = path.join(project, 'internal/demo/objects');

export const steps = {
  quick: `steps:
      - {weight: 10%, hold: 3s}
      - {weight: 50%, hold: 3s}
      - {weight: 100%, hold: 3s}`,
  approval: `steps:
      - {weight: 10%, hold: 2s}
      - {approval: {}}
      - {weight: 100%, hold: 2s}`,
  long: `steps:
      - {weight: 10%, hold: 10m}
      - {weight: 100%, hold: 2s}`,
};

export class World {
  constructor() {
    this.ends = [];
    this.rate = 150; // requests per second
  }

  static async open(o = {}) {
    const w = new World();
    try {
      await w.start(o);
    } catch (e) {
      await w.close();
      throw e;
    }
    return w;
  }

  async start({ plan = steps.quick, bad = 0, shipped = false, files = {}, user } = {}) {
    this.dir = await mkdtemp(path.join(tmpdir(), 'sb-'));
    this.ends.push(() => rm(this.dir, { recursive: true, force: true }));
    this.docs = path.join(this.dir, 'docs');
    await mkdir(this.docs);
    let rollout = (await readFile(path.join(objects, 'rollout.yaml'), 'utf8')).replace(/steps:\n(\s+- .*\n)+/, plan + '\n').replace(/bake: \w+/, 'bake: 3s').replace('deadline: 40s', 'deadline: 20m');
    // A machine that has other things to do sends few requests, and the versions'
    // latencies say nothing about them there: what can be told soon is asked for.
    if (!shipped) {
      for (const [was, is] of [['quantile: 90, worseBy: 300%', 'quantile: 50, worseBy: 1000%'], ['worseBy: 1pp, max: 10%', 'worseBy: 10pp, max: 40%'], ['minRequests: 50', 'minRequests: 20']]) {
        const next = rollout.replace(was, is);
        if (next === rollout) throw new Error(`the demo's document has no ${was}`);
        rollout = next;
      }
    }
    await writeFile(path.join(this.docs, 'rollout.yaml'), rollout);
    for (const f of ['00-service.yaml', '01-deployment-v1.yaml', '02-destinationrule.yaml', '03-virtualservice.yaml']) await this.add(f);
    for (const [name, text] of Object.entries(files)) await writeFile(path.join(this.docs, name), text);
    this.bad = bad;
    this.user = user;
    await this.up();
  }

  async add(name, change = (s) => s) {
    const text = change(await readFile(path.join(objects, name), 'utf8'));
    await writeFile(path.join(this.docs, '.new'), text);
    await rename(path.join(this.docs, '.new'), path.join(this.docs, name));
  }

  /** Starts the daemon; after down() it is another process on the same ports. */
  async up() {
    const run = (v, errors) => ['--run', `my-registry/my-app:${v}=${serin} demo-app -version ${v} -errors ${errors}`];
    const child = spawn(
      serin,
      ['up', '-f', this.docs, '--state-dir', path.join(this.dir, 'state'), '--socket', path.join(this.dir, 's'),
        '--listen', this.gateway ?? '127.0.0.1:0', '--dashboard', this.dashboard ?? '127.0.0.1:0',
        ...run('v1', 0), ...run('v2', 0), ...run('v3', this.bad)],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    this.child = child;
    this.said = '';
    this.ended = new Promise((r) => child.on('exit', r));
    child.stderr.on('data', (b) => (this.said += b));
    this.url = await until('the daemon says where its dashboard is', () => {
      if (child.exitCode !== null) throw Object.assign(new Error(this.said), { final: true });
      return /dashboard at (http\S+)/.exec(this.said)?.[1];
    });
    this.gateway = /requests at http:\/\/(\S+)/.exec(this.said)[1];
    this.dashboard = new URL(this.url).host;
    await until('the gateway answers', () => /msg=listening/.test(this.said));
  }

  async down(signal = 'SIGTERM') {
    if (!this.child) return;
    const c = this.child;
    this.child = undefined;
    if (c.exitCode === null) c.kill(signal);
    await this.ended;
  }

  /** Steady traffic until the world ends. */
  load() {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 32 });
    const [host, port] = this.gateway.split(':');
    let n = 0;
    const t = setInterval(() => {
      for (let i = 0; i < this.rate / 20; i++) {
        const r = http.get({ host, port, path: '/', agent, headers: { 'X-Request-Id': `b-${n++}` } }, (res) => res.resume());
        r.on('error', () => {});
      }
    }, 50);
    this.ends.push(async () => {
      clearInterval(t);
      agent.destroy();
    });
  }

  async browser(o = {}) {
    const b = await launch();
    this.ends.push(() => b.close());
    const { page, wrong } = await visitor(b, o);
    this.wrong = wrong;
    return page;
  }

  get list() {
    return this.url;
  }

  get detail() {
    return this.url + '#/r/-/my-app';
  }

  get token() {
    return new URL(this.url).searchParams.get('token');
  }

  /** The API as the page has it. */
  async api(p, init = {}) {
    const r = await fetch(`http://${this.dashboard}/_serin/v1${p}`, { ...init, headers: { Authorization: `Bearer ${this.token}`, 'Content-Type': 'application/json', ...init.headers } });
    return { status: r.status, body: await r.json() };
  }

  async view() {
    return (await this.api('/rollouts/my-app')).body;
  }

  async close() {
    for (const end of this.ends.splice(0).reverse()) {
      if (end.toString().includes('rm(')) await this.down();
      await end().catch(() => {});
    }
    await this.down();
  }
}
