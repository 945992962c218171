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
  const failed = Math.max(counts.failures.length, 1)
  // Hundreds of lines about what passed would hide the one that matters.
  const shown = counts.failures.length > 0 ? counts.failures.join('\n') : output
  return { ...counts, failed, note: describe(counts), output: shown }
}

async function count(report) {
  let json
  try {
    json = JSON.parse(await readFile(report, 'utf8'))
  } catch {
    return { passed: 0, failed: 0, skipped: [], failures: [] } // vitest died before it could write
  }
  const tests = json.testResults.flatMap((file) => file.assertionResults)
  const failures = json.testResults.flatMap((file) => failuresOf(file))
  const skipped = tests.filter((test) => ['skipped', 'pending', 'todo'].includes(test.status))
  return {
    passed: json.numPassedTests,
    failed: json.numFailedTests,
    skipped: skipped.map((test) => test.fullName),
    failures,
  }
}

/** What went wrong in one file, the test's name first: a test each, or the file itself. */
function failuresOf({ name, message, status, assertionResults }) {
  const file = path.relative(root, name)
  const failed = assertionResults.filter((test) => test.status === 'failed')
  if (failed.length === 0 && status === 'failed') return [`${file}\n${message}`]
  return failed.map(
    (test) => `${file}: ${test.fullName}\n${ownLines(test.failureMessages.join('\n'))}`,
  )
}

function describe({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed, ${skipped.length} skipped`
}

/** A stack without the frames of the runner, which has no message where a test ran out of time. */
function ownLines(stack) {
  return stack
    .replaceAll(/^ +at .*node_modules.*\n?/gm, '')
    .replace('Error: STACK_TRACE_ERROR', 'out of time')
}
