// Owns the receiver as a user gets it: how much it adds to a bundle, and that it runs wherever it is
// said to run. Each runtime serves it, gets the deliveries of the real sender, and answers.
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { build } from 'esbuild'
import { emptyFolder, Finding, root } from './command.mjs'
import { checkDeliveries, freePort, startServer } from './deliveries.mjs'
import { install } from './install.mjs'
import { obtain, versions } from './runtimes.mjs'

const maxBytes = 10_000

/** Minified, with everything it needs: no package and no module of Node is left to import. */
export async function checkReceiverSize() {
  const { outputFiles, metafile } = await build({
    absWorkingDir: root,
    entryPoints: ['dist/receiver/index.js'],
    bundle: true,
    minify: true,
    format: 'esm',
    platform: 'neutral',
    metafile: true,
    write: false,
    logLevel: 'silent',
    external: ['node:*'],
  })
  const outside = Object.values(metafile.outputs).flatMap((output) => output.imports)
  const packages = Object.keys(metafile.inputs).filter((file) => file.includes('node_modules'))
  if (outside.length + packages.length > 0) {
    const names = [...outside.map((one) => one.path), ...packages]
    throw new Finding(`The receiver has to need nothing, got ${names.join(', ')}.`)
  }
  const bytes = outputFiles[0].contents.length
  if (bytes >= maxBytes) throw new Finding(`The receiver is ${bytes} bytes, over ${maxBytes}.`)
  return { note: `${bytes} bytes minified of ${maxBytes}` }
}

export async function checkReceiverRuntimes() {
  const folder = await install()
  const passed = []
  const missing = []
  for (const [name, start] of Object.entries(runtimes)) {
    const program =
      name === 'node' ? process.execPath : await obtain(name === 'node24' ? 'node' : name)
    if (!program) {
      missing.push(name)
      continue
    }
    try {
      await checkRuntime(program, start, folder)
    } catch (error) {
      throw new Finding(`${name}: ${error.message}`)
    }
    passed.push(label(name))
  }
  const note = `runs on ${passed.join(', ')}`
  return { passed: passed.length, note: missing.length ? `${note}; not here: ${missing}` : note }
}

function label(name) {
  if (name === 'node') return `Node ${process.versions.node}`
  return name === 'node24' ? `Node ${versions.node}` : `${name} ${versions[name]}`
}

/** How each runtime is told to serve `receiver.mjs`, which exports one `fetch`. */
const runtimes = {
  node: (program, at) => startServer(program, ['receiver-on-node.mjs'], at),
  node24: (program, at) => startServer(program, ['receiver-on-node.mjs'], at),
  bun: (program, at) => startServer(program, ['receiver.mjs'], at),
  deno: (program, at) => {
    const args = ['serve', '--no-lock', '--host', '127.0.0.1', '--port', String(at.port)]
    const env = { DENO_DIR: mkdtempSync(path.join(at.cwd, 'deno-')), DENO_NO_UPDATE_CHECK: '1' }
    return startServer(program, [...args, 'receiver.mjs'], { ...at, env })
  },
  workerd: async (program, at) => {
    const config = await writeWorker(at)
    return startServer(program, ['serve', config], at)
  },
}

async function checkRuntime(program, start, cwd) {
  const port = await freePort()
  const server = await start(program, { port, cwd })
  const url = `http://127.0.0.1:${port}`
  try {
    const checked = await (await fetch(`${url}/self-check`)).json()
    if (checked.failed.length > 0 || checked.passed < 10) {
      throw new Finding(`self-check: ${JSON.stringify(checked)}`)
    }
    const handled = async () => (await fetch(`${url}/handled`)).json()
    await checkDeliveries({ url: `${url}/webhooks`, handled, holdsPublicKey: true })
  } catch (error) {
    throw new Finding(`${error.message}\n${server.output()}`)
  } finally {
    await server.stop()
  }
}

/** Workers take one file and no command line. */
async function writeWorker({ port, cwd }) {
  const folder = emptyFolder('worker')
  mkdirSync(folder, { recursive: true })
  await build({
    absWorkingDir: cwd,
    entryPoints: ['receiver.mjs'],
    outfile: path.join(folder, 'worker.js'),
    bundle: true,
    format: 'esm',
    platform: 'neutral',
    logLevel: 'error',
  })
  const config = path.join(folder, 'config.capnp')
  writeFileSync(
    config,
    `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "receiver", worker = .worker)],
  sockets = [(name = "http", address = "127.0.0.1:${port}", http = (), service = "receiver")],
);
const worker :Workerd.Worker = (
  modules = [(name = "worker.js", esModule = embed "worker.js")],
  compatibilityDate = "2025-09-01",
);
`,
  )
  return config
}
