/** Fault I9: a secret rotated between the retries of a delivery, in a process that keeps dying. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { auditFile } from '@k-msg/webhook'
import { createInbox } from '@k-msg/webhook/testing'
import { expect, onTestFinished, test } from 'vitest'
import { verifies } from '../journey/receiver-keys.ts'

const [oldSecret, newSecret] = [
  'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD',
  'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx',
]
const overlapMs = 10_000
const startMs = Date.UTC(2026, 0, 1)

test('every attempt verifies with what is live, and what is over is in no file', async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'kmsg-rotation-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const inbox = await createInbox()
  onTestFinished(() => inbox.close())
  const dataFile = path.join(folder, 'webhooks.db')
  const holds = (secret: string) =>
    readdirSync(folder).some((file) => readFileSync(path.join(folder, file)).includes(secret))
  const live = async (step: string, nowMs: number) => {
    const options = { dataFile, url: inbox.url, oldSecret, newSecret, overlapMs, step, nowMs }
    const child = spawn(
      process.execPath,
      [path.join(import.meta.dirname, 'rotating-child.mjs'), JSON.stringify(options)],
      { stdio: ['ignore', 'inherit', 'inherit'] },
    )
    expect(await once(child, 'close')).toEqual([null, 'SIGKILL'])
    const last = inbox.received.at(-1)
    return [verifies(last, oldSecret), verifies(last, newSecret)]
  }

  inbox.setAnswer(() => ({ status: 503 }))
  // Its one attempt was before the rotation.
  expect(await live('rotate', startMs)).toEqual([true, false])
  expect(await live('retry', startMs + 5_000)).toEqual([true, true])
  expect(holds(oldSecret)).toBe(true)

  inbox.setAnswer(() => ({ status: 200 }))
  // A reader keeps the log as it is, so that the process dies before it could clear it.
  const reader = readingConnection(dataFile)
  expect(await live('retry', startMs + overlapMs)).toEqual([false, true])
  expect(holds(oldSecret)).toBe(true)
  reader.close()
  await live('live on', startMs + overlapMs)
  expect(holds(oldSecret)).toBe(false)
  expect(holds(newSecret)).toBe(true)
  expect(new Set(inbox.received.map((one) => one.headers['webhook-id']))).toEqual(
    new Set(['evt_1']),
  )
  expect(inbox.received).toHaveLength(3)
  expect((await auditFile(dataFile)).problems).toEqual([])
}, 60_000)

function readingConnection(file: string): { close(): void } {
  const { DatabaseSync } = createRequire(import.meta.url)('@photostructure/sqlite') as {
    DatabaseSync: new (
      file: string,
      options: { readOnly: boolean },
    ) => { exec(sql: string): void; close(): void }
  }
  const database = new DatabaseSync(file, { readOnly: true })
  database.exec('begin; select count(*) from endpoint')
  return database
}
