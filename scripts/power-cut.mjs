// Owns `node scripts/power-cut.mjs`: pulls the plug under load and prints what became of what was
// accepted. The work is in test/full/power-cut.ts; docs/durability.md has a result.
import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { root } from './checks/command.mjs'

const { status } = spawnSync(
  process.execPath,
  [
    path.join(root, 'node_modules/vitest/vitest.mjs'),
    'run',
    ...['--project', 'full', 'test/full/power-cut.test.ts'],
  ],
  { cwd: root, stdio: 'inherit' },
)
process.exitCode = status ?? 1
