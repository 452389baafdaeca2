// 2,000 rollouts in the list, 100 under way and changing each second, 100
// viewers: first paint, the server's memory, how late an event is. Nothing here
// fails on a figure: it prints them. Aims: 1 s to the first rows, 50 MiB.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { buildStage, openStage } from './stage.mjs';
import { launch } from './browser.mjs';

const [n, active, viewers, seconds] = [2000, 100, 100, 20];
const { bin, remove } = await buildStage();
const stage = await openStage(bin, ['-lag', '-n', `${n}`, '-active', `${active}`]);
const mib = (b) => (b / 2 ** 20).toFixed(0) + ' MiB';
const median = (xs) => xs.toSorted((a, b) => a - b)[Math.floor(xs.length / 2)];
const browser = await launch();
try {
  console.log(`${n} rollouts, ${active} of them under way, each changing once a second`);
  const paints = [];
  for (let i = 0; i < 7; i++) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
    const page = await context.newPage();
    await page.goto(stage.url); // signs in; not measured
    await page.goto('about:blank');
    await page.addInitScript(() => {
      new MutationObserver((_, o) => {
        if (document.querySelectorAll('.row').length < 10) return;
        o.disconnect();
        requestAnimationFrame(() => setTimeout(() => (window.rowsAt = performance.now())));
      }).observe(document, { childList: true, subtree: true });
    });
    await page.goto(new URL(stage.url).origin + '/');
    await page.waitForFunction(() => window.rowsAt);
    paints.push(await page.evaluate(() => ({ rows: window.rowsAt, first: performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN })));
    if (i === 6) {
      // Smooth: how long a frame takes at most while all rows are scrolled past.
      const frames = await page.evaluate(async () => {
        const el = document.querySelector('.rows');
        const out = [];
        let last = performance.now();
        for (let k = 0; k < 120; k++) {
          el.scrollTop += 850;
          await new Promise((r) => requestAnimationFrame(r));
          out.push(performance.now() - last);
          last = performance.now();
        }
        return out;
      });
      console.log(`scrolling over all rows: a frame takes ${median(frames).toFixed(1)} ms, 1 of 100 ${frames.toSorted((a, b) => b - a)[1].toFixed(1)} ms; ${await page.locator('.row').count()} rows are drawn at a time`);
    }
    await context.close();
  }
  console.log(`first paint ${median(paints.map((p) => p.first)).toFixed(0)} ms, first rows ${median(paints.map((p) => p.rows)).toFixed(0)} ms (median of ${paints.length}; worst ${Math.max(...paints.map((p) => p.rows)).toFixed(0)} ms)`);
  const before = await stage.stats();
  const look = promisify(execFile)(bin, ['-viewers', stage.url, '-count', `${viewers}`, '-for', `${seconds}s`]);
  await new Promise((r) => setTimeout(r, (seconds * 1000) / 2));
  const during = await stage.stats();
  const f = JSON.parse((await look).stdout);
  console.log(`${viewers} viewers: ${f.events} lines in ${f.seconds} s (${mib(f.bytes)}), ${f.p50ms.toFixed(0)} ms old in the middle, 1 of 100 above ${f.p99ms.toFixed(0)} ms (a list is written to at most every 200 ms)`);
  console.log(`server: heap ${mib(before.heap)} without viewers, ${mib(during.heap)} with ${viewers}; resident ${mib(during.rss)}`);
} finally {
  await browser.close();
  await stage.close();
  await remove();
}
