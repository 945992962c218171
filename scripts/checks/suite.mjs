// Owns running vitest from a script and counting what it ran.
import { mkdir, readFile, rm } from 'node:fs/promises'
import path from 'node:path'
import { attempt, cache, root } from './command.mjs'

/** Runs one vitest project, on the Node of this process unless another is handed in. */
export async function suite(project, { node = process.execPath, timeoutMs } = {}) {
  const report = path.join(cache, `vitest-${project}-${process.pid}.json`)
  await mkdir(cache, { recursive: true })
  const { code, output } = await attempt(
    node,
    [
      path.join(root, 'node_modules/vitest/vitest.mjs'),
      'run',
      ...['--project', project],
      ...['--reporter=default', '--reporter=json', `--outputFile.json=${report}`],
    ],
    // Tests that start `node` by name must get the one that is being tested.
    { env: { PATH: `${path.dirname(node)}${path.delimiter}${process.env.PATH}` }, timeoutMs },
  )
  const counts = await count(report)
  await rm(report, { force: true })
  if (code === 0 && counts.failed === 0) return { ...counts, note: describe(counts) }
  // A file that cannot be loaded has no failed test of its own, and is a failure all the same.
  return { ...counts, failed: Math.max(counts.failed, 1), note: describe(counts), output }
}

async function count(report) {
  let json
  try {
    json = JSON.parse(await readFile(report, 'utf8'))
  } catch {
    return { passed: 0, failed: 0, skipped: [] } // vitest died before it could write
  }
  const tests = json.testResults.flatMap((file) => file.assertionResults)
  const skipped = tests.filter((test) => ['skipped', 'pending', 'todo'].includes(test.status))
  return {
    passed: json.numPassedTests,
    failed: json.numFailedTests,
    skipped: skipped.map((test) => test.fullName),
  }
}

function describe({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed, ${skipped.length} skipped`
}
