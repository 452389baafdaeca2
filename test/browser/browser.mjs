// A browser, and patience with it.
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const here = path.dirname(fileURLToPath(import.meta.url));
export const project = path.resolve(here, '../..');
export const chrome = process.env.CHROMIUM ?? '/usr/bin/chromium';

/** How long a thing may take that is bound to happen: generous, for slow machines. */
export const patience = 180_000;

export async function until(what, holds, limit = patience) {
  const end = Date.now() + limit;
  let last;
  for (;;) {
    try {
      last = await holds();
      if (last) return last;
    } catch (e) {
      if (e.final) throw e;
      last = e;
    }
    if (Date.now() > end) throw new Error(`still not so after ${limit / 1000} s: ${what} (${last})`);
    await new Promise((r) => setTimeout(r, 100));
  }
}

export const launch = () => chromium.launch({ executablePath: chrome, args: ['--no-sandbox'], timeout: patience });

/** A page of somebody who has not been here before. Whatever goes wrong in it is in `wrong`. */
export async function visitor(browser, o = {}) {
  const page = await (await browser.newContext({ viewport: { width: 1280, height: 900 }, ...o })).newPage();
  page.setDefaultTimeout(patience);
  page.setDefaultNavigationTimeout(patience);
  const wrong = [];
  page.on('pageerror', (e) => wrong.push(e.message));
  page.on('console', (m) => {
    if (m.type() === 'error' && !/Failed to load resource|ERR_CONNECTION|net::ERR/.test(m.text())) wrong.push(m.text());
  });
  return { page, wrong };
}
