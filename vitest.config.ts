import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const file = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))

// Tests import the package by its own name, as users do, and get the sources.
const alias = [
  { find: /^@k-msg\/webhook$/, replacement: file('./src/index.ts') },
  { find: /^@k-msg\/webhook\/testing$/, replacement: file('./src/testing/index.ts') },
]

export default defineConfig({
  test: {
    globalSetup: ['test/setup/build.ts'],
    projects: [
      {
        resolve: { alias },
        test: {
          name: 'unit',
          include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
          exclude: ['test/full/**'],
          testTimeout: 20_000,
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
