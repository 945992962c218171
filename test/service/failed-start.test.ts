// How a process ends whose service could not start: as the app says, or as a failure.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { expect, it } from 'vitest'

const library = pathToFileURL(path.join(import.meta.dirname, '../../dist/index.js')).href

async function run(program: string, storage = tmpdir()): Promise<{ code: unknown; said: string }> {
  const begin = `
    import { WebhookService } from ${JSON.stringify(library)}
    const service = new WebhookService({ storage: ${JSON.stringify(storage)}, logger: false })
  `
  const child = spawn(process.execPath, ['--input-type=module', '-e', begin + program])
  let said = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      said += text
    })
  }
  const [code] = await once(child, 'close')
  return { code, said }
}

it.each([
  ['nothing is asked', ''],
  ['only facts are listened to', `service.on('delivery.failed', () => {})`],
])('it failed, when %s', async (_, program) => {
  expect(await run(program)).toEqual({ code: 1, said: '' })
})

it('and goes on until it ends by itself', async () => {
  const { code, said } = await run(`setTimeout(() => console.log('went on'), 500)`)
  expect(said).toBe('went on\n')
  expect(code).toBe(1)
})

it.each([
  ['it was told by ready()', `service.ready().catch(() => {})`],
  ['it was told by any call', `service.getStats().catch(() => {})`],
  ['it was told by health()', `setTimeout(() => service.health(), 500)`],
  ['it has closed the service', `setTimeout(() => service.close(), 500)`],
  ['it says so', `process.exitCode = 0`],
  ['it ends itself', `setTimeout(() => process.exit(0), 500)`],
])('the app decides, when %s', async (_, program) => {
  expect(await run(program)).toEqual({ code: 0, said: '' })
})

it('a service that starts and is closed leaves 0', async () => {
  const file = path.join(tmpdir(), `kmsg-start-${process.pid}.db`)
  const program = `
    import { rmSync } from 'node:fs'
    await service.ready()
    await service.close()
    for (const end of ['', '-lock']) rmSync(${JSON.stringify(file)} + end)
  `
  expect(await run(program, file)).toEqual({ code: 0, said: '' })
})
