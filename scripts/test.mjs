// Owns `npm test`: every check of this repository, one line each, and one total as the last line.
//
//   node scripts/test.mjs                 everything but the long fault runs
//   node scripts/test.mjs --full          the long fault runs too
//   node scripts/test.mjs lint package    only these steps
import { build } from './build.mjs'
import { bin, Finding, run } from './checks/command.mjs'
import { checkExamples } from './checks/examples.mjs'
import { checkFreshClone } from './checks/fresh-clone.mjs'
import { checkBundles, checkInstall } from './checks/install.mjs'
import { checkPackage } from './checks/package.mjs'
import { checkReceiverRuntimes, checkReceiverSize } from './checks/receiver.mjs'
import { checkBun, checkNode24 } from './checks/runtimes.mjs'
import { suite } from './checks/suite.mjs'

const steps = {
  lint: () => run(bin('biome'), ['check', '--error-on-warnings']),
  types: () => run(bin('tsc'), []),
  unused: () => run(bin('knip'), ['--no-progress', '--no-config-hints']),
  build,
  tests: () => suite('unit'),
  postgres: () => suite('postgres'),
  docs: () => suite('docs'),
  package: checkPackage,
  install: checkInstall,
  bundle: checkBundles,
  'fresh-clone': checkFreshClone,
  node24: checkNode24,
  bun: checkBun,
  'receiver-size': checkReceiverSize,
  receiver: checkReceiverRuntimes,
  examples: checkExamples,
  full: () => suite('full', { timeoutMs: 3_600_000 }),
}

const wanted = process.argv.slice(2).filter((name) => name !== '--full')
const unknown = wanted.filter((name) => !(name in steps))
if (unknown.length > 0) {
  console.error(`Expected steps of ${Object.keys(steps).join(', ')}; got ${unknown.join(', ')}.`)
  process.exit(2)
}
const full = process.argv.includes('--full')
const chosen = Object.keys(steps).filter((name) =>
  wanted.length > 0 ? wanted.includes(name) : name !== 'full' || full,
)

const total = { passed: 0, failed: 0 }
const failures = []
const startMs = performance.now()
for (const name of chosen) {
  const result = await runStep(name)
  total.passed += result.passed
  total.failed += result.failed
  if (result.failed > 0) failures.push(...(result.failures ?? [result.output]).map(headline))
  // Without a build, what follows would test the previous one.
  if (name === 'build' && result.failed > 0) break
}
// Once more, where who looks at the end of a long log sees it.
for (const failure of failures) console.log(`failed: ${failure}`)
console.log(`\n${chosen.length} steps in ${seconds(startMs)}`)
console.log(`${total.passed} passed, ${total.failed} failed`)
process.exitCode = total.failed > 0 ? 1 : 0

async function runStep(name) {
  const stepMs = performance.now()
  const result = await outcomeOf(steps[name])
  const verdict = verdictOf(result)
  const note = typeof result.skipped === 'string' ? result.skipped : (result.note ?? '')
  console.log(`${verdict.padEnd(8)}${name.padEnd(13)}${seconds(stepMs).padStart(8)}  ${note}`)
  if (Array.isArray(result.skipped)) {
    for (const test of result.skipped) console.log(`          skipped: ${test}`)
  }
  if (result.output) console.log(result.output.trimEnd().replaceAll(/^/gm, '    '))
  return result
}

/** The name of what failed, and the first line of what it said. */
function headline(text = '') {
  return text.trim().split('\n').slice(0, 2).join(': ')
}

function verdictOf({ failed, skipped }) {
  if (failed > 0) return 'FAILED'
  return typeof skipped === 'string' ? 'skipped' : 'ok'
}

/** A step says how many tests it ran, or just ends well or throws: then it counts as one. */
async function outcomeOf(step) {
  try {
    const result = await step()
    if (typeof result?.skipped === 'string') return { ...result, passed: 0, failed: 0 }
    return { passed: 1, failed: 0, ...(typeof result === 'object' && result) }
  } catch (error) {
    return { passed: 0, failed: 1, output: error instanceof Finding ? error.message : error.stack }
  }
}

function seconds(sinceMs) {
  return `${((performance.now() - sinceMs) / 1000).toFixed(1)} s`
}
