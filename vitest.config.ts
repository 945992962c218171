import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const file = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))

// Tests import the package by its own name, as users do, and get the sources.
const alias = [
  { find: /^@k-msg\/webhook$/, replacement: file('./src/index.ts') },
  { find: /^@k-msg\/webhook\/postgres$/, replacement: file('./src/storage/postgres/index.ts') },
  { find: /^@k-msg\/webhook\/receiver$/, replacement: file('./src/receiver/index.ts') },
  { find: /^@k-msg\/webhook\/receiver\/(\w+)$/, replacement: file('./src/receiver/$1.ts') },
  { find: /^@k-msg\/webhook\/testing$/, replacement: file('./src/testing/index.ts') },
]

// Documents name hosts that do not exist; what runs from them connects to a local receiver.
const connectToReceiver = {
  name: 'connect-to-receiver',
  enforce: 'pre' as const,
  resolveId(source: string, importer = '') {
    const isDispatcher = importer.endsWith('/src/deliver/dispatcher.ts')
    return isDispatcher && source === './connect.ts' ? file('./test/docs/connect.ts') : null
  },
}

export default defineConfig({
  test: {
    globalSetup: ['test/setup/build.ts'],
    projects: [
      {
        resolve: { alias },
        test: {
          name: 'unit',
          include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
          exclude: ['test/full/**', 'test/docs/**', 'test/seed/**', 'test/postgres/**'],
          // One waits for a disk, a clock or a child while the other runs.
          maxWorkers: 2,
          testTimeout: 20_000,
        },
      },
      {
        plugins: [connectToReceiver],
        resolve: {
          alias: [
            { find: /^@k-msg\/webhook$/, replacement: file('./test/docs/package.ts') },
            ...alias,
          ],
        },
        test: {
          name: 'docs',
          include: ['test/docs/**/*.test.ts', 'test/seed/**/*.test.ts'],
          testTimeout: 30_000,
        },
      },
      {
        resolve: { alias },
        test: {
          name: 'postgres',
          include: ['test/postgres/**/*.test.ts', 'test/journey/**/*.test.ts'],
          // It is about a data file throughout.
          exclude: ['test/journey/disk.test.ts'],
          globalSetup: ['test/postgres/server.ts'],
          // They wait for a server and for processes: two cores have time for two files.
          maxWorkers: 2,
          testTimeout: 60_000,
        },
      },
      {
        resolve: { alias },
        test: {
          name: 'full',
          include: ['test/full/**/*.test.ts'],
          testTimeout: 600_000,
          fileParallelism: false,
        },
      },
    ],
  },
})
