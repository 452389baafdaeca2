import { defineConfig } from 'vitest/config';

// Names without hashes: the files are few, served with an ETag each, and
// app.js and app.css are also written into an export.
export default defineConfig({
  base: './',
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
