import { writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import path from 'node:path'
import { type AuditReport, WebhookService } from '@k-msg/webhook'
import { createInbox } from '@k-msg/webhook/testing'
import { expect, it, onTestFinished } from 'vitest'
import { emptyFolder, run } from './command.ts'

/** A service that has delivered one event, still running. */
async function serviceWithOneDelivery(data: string): Promise<WebhookService> {
  const inbox = await createInbox()
  onTestFinished(() => inbox.close())
  const service = new WebhookService({
    storage: data,
    allowedNetworks: ['127.0.0.0/8'],
    logger: false,
  })
  onTestFinished(() => service.close())
  await service.registerEndpoint({ id: 'shop', url: inbox.url, events: ['*'] })
  await service.dispatchEvent({ id: 'e1', type: 'message.sent', timestamp: new Date(), data: 1 })
  await service.drain()
  return service
}

/** Loses an ended delivery, as no code of ours may. */
function loseADelivery(data: string): void {
  const { DatabaseSync } = createRequire(import.meta.url)('@photostructure/sqlite') as {
    DatabaseSync: new (file: string) => { exec(sql: string): void; close(): void }
  }
  const database = new DatabaseSync(data)
  database.exec('pragma foreign_keys = off; delete from done')
  database.close()
}

it('finds a good file well, beside the running service', async () => {
  const data = path.join(await emptyFolder(), 'good.db')
  await serviceWithOneDelivery(data)
  const finished = await run(['doctor', '--data', data])
  expect(finished.stderr).toBe('')
  expect(finished.stdout).toMatch(/^ +delivered +1$/m)
  expect(finished.stdout).toContain('No problem found.')
  // Words, not the names of a program.
  expect(finished.stdout.split('\n').slice(1).join('\n')).not.toMatch(/[a-z][A-Z]/)
  expect(finished.code).toBe(0)

  const { stdout, code } = await run(['doctor', '--data', data, '--json'])
  expect((JSON.parse(stdout) as AuditReport).problems).toEqual([])
  expect(code).toBe(0)
})

it('names what is wrong, and fails', async () => {
  const data = path.join(await emptyFolder(), 'bad.db')
  await (await serviceWithOneDelivery(data)).close()
  loseADelivery(data)
  const finished = await run(['doctor', '--data', data])
  expect(finished.stdout).toMatch(/^PROBLEM +event_has_all_its_deliveries: 1 case$/m)
  expect(finished.stdout).toMatch(/invariants? broken/)
  expect(finished.code).toBe(1)

  const { stdout, code } = await run(['doctor', '--data', data, '--json'])
  expect((JSON.parse(stdout) as AuditReport).problems.length).toBeGreaterThan(0)
  expect(code).toBe(1)
})

it('refuses a file that is no database, and one that is not there', async () => {
  const folder = await emptyFolder()
  const data = path.join(folder, 'text.db')
  await writeFile(data, 'this is not a database, and never was one'.repeat(100))
  const other = await run(['doctor', '--data', data])
  expect(other.stderr).toMatch(/^error: .*\[STORAGE_(CORRUPT|FOREIGN)\]\n$/)
  expect(other.code).toBe(1)

  const missing = await run(['doctor', '--data', path.join(folder, 'none.db')])
  expect(missing.stderr).toMatch(/^error: .*found no file at/)
  expect(missing.code).toBe(2)

  const inside = await run(['doctor', '--data', folder])
  expect(inside.stderr).toMatch(/^error: .*found a directory at .*\[OPTION_INVALID\]\n$/)
  expect(inside.code).toBe(2)
})
