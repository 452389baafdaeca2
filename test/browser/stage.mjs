// The stage: rollouts that nobody runs, see stage/main.go.
import { execFile, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { project, until } from './browser.mjs';

export async function buildStage() {
  const dir = await mkdtemp(path.join(tmpdir(), 'sb-stage-'));
  const bin = path.join(dir, 'stage');
  await promisify(execFile)('go', ['build', '-o', bin, './test/browser/stage'], { cwd: project });
  return { bin, remove: () => rm(dir, { recursive: true, force: true }) };
}

export async function openStage(bin, args) {
  const child = spawn(bin, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  child.stdout.on('data', (b) => (said += b));
  const ended = new Promise((r) => child.on('exit', r));
  const [url, stats] = await until('the stage is open', () => /stats\n/.test(said) && said.trim().split('\n'));
  return {
    url,
    stats: async () => (await fetch(stats)).json(),
    close: async () => {
      child.kill('SIGTERM');
      await ended;
    },
  };
}
