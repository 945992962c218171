import path from 'node:path'
import { type WebhookError, WebhookService } from '@k-msg/webhook'
import { createInbox } from '@k-msg/webhook/testing'
import { expect, it, onTestFinished, vi } from 'vitest'
import { emptyFolder, ndjson, run, sampleEvents } from './command.ts'

const variable = 'KMSG_WEBHOOK_ENCRYPTION_KEYS'
const makeKey = async (...args: string[]) => (await run(['key', ...args])).stdout.trim()

it('makes keys that a service takes, each another one', async () => {
  const keys = [await makeKey(), await makeKey(), await makeKey('--id', 'k3')]
  expect(keys[0]).toMatch(/^k\d{8}-[0-9a-f]{4}:[A-Za-z0-9+/]{43}=$/)
  expect(keys[2]).toMatch(/^k3:/)
  const service = new WebhookService({
    encryptionKeys: keys,
    storage: path.join(await emptyFolder(), 'a.db'),
    logger: false,
  })
  await service.ready()
  await service.close()
  expect((await run(['key', '--id', 'a b'])).code).toBe(2)
})

it('send encrypts with the keys of the environment, and doctor counts them', async () => {
  const folder = await emptyFolder()
  const inbox = await createInbox()
  onTestFinished(() => inbox.close())
  const data = path.join(folder, 'send.db')
  const send = (env: Record<string, string>) =>
    run(['send', '-', '--to', inbox.url, '--allow-private', '--data', data], {
      input: ndjson(sampleEvents(1)),
      cwd: folder,
      env,
    })
  const [k1, k2] = [await makeKey('--id', 'k1'), await makeKey('--id', 'k2')]
  const first = await send({ [variable]: k1 })
  expect(first.stderr).not.toContain('unencrypted')
  expect(first.code).toBe(0)
  const doctor = (env: Record<string, string> = {}) => run(['doctor', '--data', data], { env })
  expect((await doctor()).stdout).toMatch(/^ +endpoints under key k1 +1$/m)
  expect(await doctor({ [variable]: k1 })).toMatchObject({ code: 0 })
  const lacking = await doctor({ [variable]: k2 })
  expect(lacking.stdout).toContain(`PROBLEM  ${variable} lacks the key k1`)
  expect(lacking.code).toBe(1)
  const asJson = await run(['doctor', '--data', data, '--json'], { env: { [variable]: k2 } })
  expect(JSON.parse(asJson.stdout)).toMatchObject({ keys: { invalid: null, missing: ['k1'] } })
  expect(asJson.code).toBe(1)

  const refused = await send({ [variable]: k2 })
  expect(refused.stderr).toMatch(/ENCRYPTION_KEY_MISSING/)
  expect(refused.code).toBe(1)
  expect((await send({ [variable]: `${k2},${k1}` })).code).toBe(0)
})

it.each(['nonsense', 'k1:AAAA', 'k1:@', `k1:${'A'.repeat(43)}=,k1:${'B'.repeat(43)}=`])(
  'doctor says of the keys %s what a service would refuse them with',
  async (keys) => {
    const data = path.join(await emptyFolder(), 'a.db')
    const service = new WebhookService({ storage: data, logger: false })
    await service.ready()
    await service.close()
    vi.stubEnv(variable, keys)
    onTestFinished(() => void vi.unstubAllEnvs())
    let sentence = ''
    try {
      new WebhookService({ storage: data })
    } catch (error) {
      sentence = (error as WebhookError).message
    }
    expect(sentence).toMatch(/^Expected /)
    const { stdout, code } = await run(['doctor', '--data', data], { env: { [variable]: keys } })
    expect(stdout).toContain(`PROBLEM  ${sentence}\n`)
    expect(stdout).toContain('would not start')
    expect(code).toBe(1)
    const asJson = await run(['doctor', '--data', data, '--json'], { env: { [variable]: keys } })
    expect(JSON.parse(asJson.stdout)).toMatchObject({ keys: { invalid: sentence } })
  },
)

it('send says that secrets lie in the clear without a key', async () => {
  const folder = await emptyFolder()
  const inbox = await createInbox()
  onTestFinished(() => inbox.close())
  const { stderr } = await run(['send', '-', '--to', inbox.url, '--allow-private'], {
    input: ndjson(sampleEvents(1)),
    cwd: folder,
    env: { [variable]: '' },
  })
  expect(stderr).toContain(variable)
})
