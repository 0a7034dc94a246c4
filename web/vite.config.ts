import { defineConfig } from 'vitest/config';

// `npm run dev` serves the page on its own and passes the service's paths on to a
// running call service; the built page is served by the service itself.
const service = process.env.CALL_SERVICE_URL ?? 'http://127.0.0.1:3003';
const passed = ['/api', '/dev', '/health', '/ready', '/monitoring'];

export default defineConfig({
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  build: {
    target: 'es2022',
    // Inlined assets would need `data:` in the service's content security policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 700,
  },
  server: {
    proxy: {
      ...Object.fromEntries(passed.map((path) => [path, service])),
      '/socket.io': { target: service, ws: true },
    },
  },
  test: { include: ['unit/**/*.test.ts'], environment: 'node' },
});
