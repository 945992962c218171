// Owns examples/: each is installed from its lockfile with the package as it is published, type-checked,
// started the way its README says, and sent to by the real sender; one that ends by itself has to print
// what its README says.
import assert from 'node:assert/strict'
import { chmodSync, cpSync, existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { bin, emptyFolder, Finding, npm, root, run } from './command.mjs'
import { checkDeliveries, freePort, startServer } from './deliveries.mjs'
import { pack } from './package.mjs'

export async function checkExamples() {
  // Where the package lies in a clone, so that `file:../..` in an example means the same.
  const folder = emptyFolder('examples')
  // The database of an example runs as another user when this is root.
  chmodSync(folder, 0o755)
  const { file } = await pack()
  await run('tar', ['-xzf', file, '-C', folder, '--strip-components=1'])
  const names = readdirSync(path.join(root, 'examples')).sort()
  const results = await twoAtATime(names, (name) => checkExample(name, folder))
  const failures = results.flatMap(({ name, error }) =>
    error ? [`examples/${name}: ${error.message}`] : [],
  )
  if (failures.length > 0) throw new Finding(failures.join('\n'))
  const note = results.map(({ name, ms }) => `${name} ${(ms / 1_000).toFixed(1)} s`).join(', ')
  return { passed: results.length, note }
}

/** One installs, waiting for the network and the disk, while the other compiles. */
async function twoAtATime(names, check) {
  const left = [...names]
  const results = []
  const lane = async () => {
    for (let name = left.shift(); name !== undefined; name = left.shift()) {
      const startMs = performance.now()
      const error = await check(name).then(
        () => null,
        (cause) => cause,
      )
      results.push({ name, error, ms: performance.now() - startMs })
    }
  }
  await Promise.all([lane(), lane()])
  return results
}

async function checkExample(name, folder) {
  const cwd = path.join(folder, 'examples', name)
  const ignored = /[\\/](?:node_modules|\.next|\.k-msg)(?:[\\/]|$)/
  const source = path.join(root, 'examples', name)
  cpSync(source, cwd, {
    recursive: true,
    filter: (from) => !ignored.test(from.slice(source.length)),
  })
  await npm(['ci', '--ignore-scripts', '--engine-strict'], { cwd })
  const { scripts } = JSON.parse(readFileSync(path.join(cwd, 'package.json'), 'utf8'))
  const program = ['server.js', 'app.js'].find((file) => existsSync(path.join(cwd, file)))
  if (program) await checkTypes(cwd, program)
  const env = { NEXT_TELEMETRY_DISABLED: '1' }
  if (scripts.build) await npm(['run', 'build'], { cwd, env })
  if (program === 'app.js') return await checkOutput(cwd)

  const port = await freePort()
  const server = await startServer('npm', ['start', '--silent'], { port, cwd, env })
  try {
    const handled = async () => handledIn(server.output())
    await checkDeliveries({ url: `http://127.0.0.1:${port}/webhooks`, handled })
  } catch (error) {
    throw new Finding(`${error.message}\n${server.output()}`)
  } finally {
    await server.stop()
  }
}

async function checkOutput(cwd) {
  const readme = readFileSync(path.join(cwd, 'README.md'), 'utf8')
  const promised = /^```text\n(.*?)^```$/ms.exec(readme)?.[1]
  const env = { DATABASE_URL: undefined }
  const printed = await npm(['start', '--silent'], { cwd, env, timeoutMs: 60_000 })
  assert.equal(printed, promised, 'what it prints is what its README says')
}

function handledIn(output) {
  return [...output.matchAll(/^handled \S+ (\S+)/gm)].map(([, id]) => id)
}

/** The adapters ask for shapes; whether the framework has them is said by its own types. */
async function checkTypes(cwd, program) {
  const options = ['--noEmit', '--strict', '--checkJs', '--skipLibCheck', '--target', 'es2022']
  const modules = ['--module', 'nodenext', '--lib', 'es2023,esnext.disposable']
  const types = ['--types', 'node', '--typeRoots', path.join(root, 'node_modules/@types')]
  await run(bin('tsc'), [program, ...options, ...modules, ...types], { cwd })
}
