import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Plugin } from 'vite';
import { defineConfig } from 'vitest/config';

// What dist was built from, so that a Go test can tell without Node whether it
// is current: embed_test.go reads the same files in the same order.
function sources(): Plugin {
  const here = import.meta.dirname;
  const files = ['index.html', 'package-lock.json', 'package.json', 'tsconfig.json', 'vite.config.ts'];
  for (const dir of ['public', 'src']) for (const f of readdirSync(join(here, dir))) if (!f.includes('.test.')) files.push(dir + '/' + f);
  return {
    name: 'sources',
    apply: 'build',
    generateBundle() {
      const h = createHash('sha256');
      for (const f of files.sort()) h.update(f + '\0').update(readFileSync(join(here, f))).update('\0');
      this.emitFile({ type: 'asset', fileName: 'sources.sha256', source: h.digest('hex') + '\n' });
    },
  };
}

// Names without hashes: the files are few, served with an ETag each, and
// app.js and app.css are also written into an export.
export default defineConfig({
  base: './',
  plugins: [sources()],
  esbuild: { jsx: 'automatic', jsxImportSource: 'preact', legalComments: 'none' },
  build: {
    target: 'es2022',
    outDir: 'dist',
    emptyOutDir: true,
    assetsInlineLimit: 0,
    cssCodeSplit: false,
    modulePreload: false,
    reportCompressedSize: false,
    rollupOptions: {
      output: {
        inlineDynamicImports: true,
        entryFileNames: 'app.js',
        assetFileNames: (a) => (a.names[0]?.endsWith('.css') ? 'app.css' : a.names[0]?.endsWith('.woff2') ? 'inter.woff2' : '[name][extname]'),
      },
    },
  },
  test: { environment: 'node', include: ['src/**/*.test.ts'] },
});
