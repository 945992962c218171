// Moving house: from a data file to PostgreSQL, with everything, or not at all.
import { createHash } from 'node:crypto'
import { copyFile, readFile } from 'node:fs/promises'
import path from 'node:path'
import { sqlite, type WebhookService } from '@k-msg/webhook'
import { auditPostgres, postgres } from '@k-msg/webhook/postgres'
import { describe, expect, onTestFinished, test } from 'vitest'
import { type MovedTable, moveToPostgres } from '../../src/moving/move.ts'
import { movingTables, staying } from '../../src/storage/moving.ts'
import { importInto } from '../../src/storage/postgres/import.ts'
import { invariants } from '../../src/storage/postgres/invariants.ts'
import { loadDriver } from '../../src/storage/sqlite/driver.ts'
import { emptyFolder, run, start } from '../cli/command.ts'
import { journey, type Stage } from '../journey/stage.ts'
import { testHost } from '../storage/fixtures.ts'
import { answer, answersOf, hourMs, live, otherTenant, reason } from './house.ts'
import { freshSchema, onServer, type TestSchema } from './schemas.ts'

function newPlace(): TestSchema {
  const schema = freshSchema()
  onTestFinished(() => schema.drop())
  return schema
}

/** Moves, and aborts after so many slices when told to. */
async function move(file: string, target: TestSchema, stopAfterSlices = Infinity) {
  const controller = new AbortController()
  const tables: MovedTable[] = []
  let slices = 0
  await moveToPostgres(
    { file, url: target.url, schema: target.name, signal: controller.signal },
    {
      begins() {},
      wrote() {
        slices += 1
        if (slices >= stopAfterSlices) controller.abort()
      },
      checked: (table) => tables.push(table),
    },
  )
  return tables
}

function openTarget(stage: Stage, { url, name }: TestSchema): Promise<WebhookService> {
  return stage.open({
    storage: postgres(url, { schema: name }),
    retryScheduleMs: [hourMs, hourMs, hourMs],
  })
}

/** Makes the schema and leaves it empty. */
async function prepare(target: TestSchema): Promise<void> {
  const store = await postgres(target.url, { schema: target.name }).open(testHost())
  await store.close()
}

const digestOf = async (file: string) =>
  createHash('sha256')
    .update(await readFile(file))
    .digest('hex')

describe('a file that moves to PostgreSQL', () => {
  journey('is the same there, whatever is asked, and stays as it was', async (stage) => {
    await live(stage)
    const target = newPlace()
    const before = await digestOf(stage.dataFile)
    const tables = await move(stage.dataFile, target)
    expect(tables.map(({ name }) => name)).toEqual(movingTables.map(({ name }) => name))
    for (const table of tables) {
      expect(table.same).toBe(true)
      // A table without a row would prove nothing.
      expect([table.name, table.read.rows > 0]).toEqual([table.name, true])
    }
    expect(await digestOf(stage.dataFile)).toBe(before)
    expect((await auditPostgres(target.url, { schema: target.name })).problems).toEqual([])

    const host = testHost()
    host.now = stage.clock.nowMs()
    // A copy, because opening a store writes.
    const copy = path.join(stage.folder, 'copy.db')
    await copyFile(stage.dataFile, copy)
    const old = await sqlite({ path: copy }).open(host)
    const moved = await postgres(target.url, { schema: target.name }).open(host)
    try {
      const expected = await answersOf(old)
      const { intake, ...counts } = (await answersOf(moved)).counts as Record<string, number>
      expect(intake).toBe(0)
      expect({ ...(await answersOf(moved)), counts }).toEqual(expected)
      expect(expected.problems).toEqual([])
      expect(JSON.stringify(expected.endpoints)).toContain(JSON.stringify(reason).slice(1, -1))
    } finally {
      await old.close()
      await moved.close()
    }
    // For the audit that ends each journey.
    await openTarget(stage, target)
  })

  journey('goes on there: what waited is sent, attempts count on', async (stage) => {
    await live(stage)
    const target = newPlace()
    await move(stage.dataFile, target)
    const sealed = stage.at('batched')[0]
    const requestsBefore = stage.inbox.received.length
    stage.inbox.setAnswer(() => ({ status: 200 }))
    const service = await openTarget(stage, target)

    const again = await service
      .dispatchEvent(stage.event({ id: 'unwanted', tenantId: 'nobody' }))
      .catch((error: unknown) => error)
    expect(again).toMatchObject({ code: 'EVENT_ID_CONFLICT' })
    await stage.passTime(service)
    await service.resumeEndpoint('paused')
    await stage.passTime(service)

    // Its key is held up there too, until somebody frees it.
    const behind = await stage.delivery(service, 'clicked-2', 'ordered')
    expect(behind).toMatchObject({ state: 'waiting', waiting: { for: 'ordering', until: null } })
    await service.skipDelivery((await stage.delivery(service, 'clicked-1', 'ordered')).id)
    await stage.passTime(service)

    const flaky = await stage.delivery(service, 'sent', 'flaky')
    expect(flaky).toMatchObject({ state: 'delivered', attemptCount: 2 })
    expect(flaky.attempts.map(({ number }) => number)).toEqual([1, 2])
    const no = await stage.delivery(service, 'sent', 'no')
    expect(no).toMatchObject({ state: 'rejected', attemptCount: 1 })
    expect(JSON.stringify(no.attempts)).toContain(JSON.stringify(answer).slice(1, -1))
    for (const [eventId, endpointId] of [
      ['sent', 'paused'],
      ['under-way', 'shop'],
      ['wide', 'shop'],
      ['loose', 'batched'],
      ['read-1', 'batched'],
      ['clicked-2', 'ordered'],
    ] as const) {
      expect((await stage.delivery(service, eventId, endpointId)).state).toBe('delivered')
    }
    // The batch that was sealed before is the same after: its id and its bytes.
    const retried = stage
      .at('batched')
      .find((one) => one !== sealed && one.headers['webhook-id'] === sealed?.headers['webhook-id'])
    expect(retried?.body).toBe(sealed?.body)
    expect(
      stage.inbox.received.slice(requestsBefore).every((one) => one.signature === 'valid'),
    ).toBe(true)
    expect((await service.listDeliveries({ state: 'waiting', tenantId: '*' })).deliveries).toEqual(
      [],
    )
    // Deliveries of the other tenant stay his.
    expect(await service.getEvent('two')).toBeNull()
    expect(await service.getEvent('two', { tenantId: otherTenant })).toMatchObject({
      deliveries: [{ state: 'delivered' }],
    })
  })

  journey('is refused while a service uses it', async (stage) => {
    await live(stage)
    const target = newPlace()
    const service = await stage.open({ storage: sqlite({ path: stage.dataFile }) })
    await expect(move(stage.dataFile, target)).rejects.toMatchObject({ code: 'STORAGE_LOCKED' })
    await service.close()
    await openTarget(stage, target)
  })

  journey('is refused where something is already', async (stage) => {
    await live(stage)
    const target = newPlace()
    await move(stage.dataFile, target)
    await expect(move(stage.dataFile, target)).rejects.toMatchObject({
      code: 'STORAGE_NOT_EMPTY',
      message: expect.stringContaining('endpoint'),
    })
    await openTarget(stage, target)
  })

  journey('moves anew after it was stopped half way', async (stage) => {
    await live(stage)
    const target = newPlace()
    await expect(move(stage.dataFile, target, 5)).rejects.toThrow()
    const { counts } = await auditPostgres(target.url, { schema: target.name })
    expect(new Set(Object.values(counts))).toEqual(new Set([0]))
    const tables = await move(stage.dataFile, target)
    expect(tables.every(({ same }) => same)).toBe(true)
    await openTarget(stage, target)
  })

  journey('does not move where it would not read back the same', async (stage) => {
    await live(stage)
    const target = newPlace()
    await prepare(target)
    await onServer(target.url, (client) =>
      client.query(`
        create function ${target.name}.spoil() returns trigger language plpgsql as
          $$ begin new.latency_ms := new.latency_ms + 1; return new; end $$;
        create trigger spoil before insert on ${target.name}.attempt
          for each row execute function ${target.name}.spoil()`),
    )
    await expect(move(stage.dataFile, target)).rejects.toMatchObject({
      code: 'STORAGE_CORRUPT',
      message: expect.stringContaining('attempt'),
    })
    const { counts } = await auditPostgres(target.url, { schema: target.name })
    expect(counts.events).toBe(0)
    await openTarget(stage, target)
  })
})

test('a text with NUL is the same there, and so is JSON with the mark that stands for it', async () => {
  const target = newPlace()
  const change = [
    'key00000',
    1,
    'paused',
    1,
    'a \0 and a \uFDD0 \\ "',
    '["\uFDD0 \\u0000"]',
  ] as const
  const tables: MovedTable[] = []
  await importInto(
    target.url,
    { schema: target.name },
    {
      location: 'nowhere',
      count: () => 1,
      slices: ({ name }) => (name === 'endpoint_change' ? [[change]] : []),
      close() {},
    },
    {
      signal: new AbortController().signal,
      begins() {},
      wrote() {},
      checked: (table) => tables.push(table),
    },
  )
  expect(tables.every(({ same }) => same)).toBe(true)
  const store = await postgres(target.url, { schema: target.name }).open(testHost())
  expect(await store.endpointHistory('key00000', 1_000, null)).toEqual([
    { atMs: 1, version: 1, what: 'paused', reason: change[4], fields: ['\uFDD0 \0'] },
  ])
  await store.close()
})

test('no invariant is a question that takes the square of the rows', () => {
  for (const { name, sql } of invariants) {
    expect([name, sql]).not.toEqual([
      name,
      expect.stringMatching(/not in \(select .* kmsg\.(?!worker)/),
    ])
  }
})

describe('the list of what moves', () => {
  test('names every column of both schemas, and its kind', async () => {
    const file = path.join(await emptyFolder(), 'columns.db')
    await (await sqlite({ path: file }).open(testHost())).close()
    const target = newPlace()
    await prepare(target)
    const listed = movingTables.flatMap(({ name, columns }) =>
      Object.entries(columns).map(([column, kind]) => [`${name}.${column}`, kind] as const),
    )
    for (const found of [columnsOfFile(file), await columnsOfSchema(target)]) {
      const moving = [...found].filter(
        ([column]) => !staying.includes(column) && !staying.includes(column.split('.')[0] ?? ''),
      )
      expect(moving.map(([column]) => column).sort()).toEqual(
        listed.map(([column]) => column).sort(),
      )
      for (const [column, kind] of listed) {
        expect([column, kindsOfType[found.get(column) ?? '']]).toEqual([
          column,
          expect.arrayContaining([kind]),
        ])
      }
    }
  })
})

const kindsOfType: Record<string, readonly string[]> = {
  TEXT: ['text', 'json'],
  INTEGER: ['integer', 'boolean'],
  REAL: ['real'],
  BLOB: ['bytes'],
  text: ['text', 'json'],
  json: ['json'],
  smallint: ['integer'],
  integer: ['integer'],
  bigint: ['integer'],
  boolean: ['boolean'],
  'double precision': ['real'],
  bytea: ['bytes'],
}

function columnsOfFile(file: string): Map<string, string> {
  const database = loadDriver([import.meta.url]).open(file)
  const rows = database
    .prepare(`
      select t.name || '.' || c.name as name, upper(c.type) as type
        from sqlite_schema t join pragma_table_info(t.name) c
       where t.type = 'table' and t.name not like 'sqlite_%'`)
    .all() as { name: string; type: string }[]
  database.close()
  return new Map(rows.map(({ name, type }) => [name, type]))
}

/** Partitions are parts of a table that is listed. */
async function columnsOfSchema({ url, name }: TestSchema): Promise<Map<string, string>> {
  const { rows } = await onServer(url, (client) =>
    client.query(
      `select table_name || '.' || column_name as name, data_type as type
         from information_schema.columns join pg_class
           on pg_class.oid = format('%I.%I', table_schema, table_name)::regclass
        where table_schema = $1 and not relispartition and relkind <> 'v'`,
      [name],
    ),
  )
  return new Map(rows.map((row) => [row.name as string, row.type as string]))
}

describe('kmsg-webhook migrate', () => {
  journey('prints both sides of each table, and doctor finds the new place well', async (stage) => {
    await live(stage)
    const target = newPlace()
    const to = ['--to', target.url, '--schema', target.name]
    const moved = await run(['migrate', '--from', `sqlite:${stage.dataFile}`, ...to])
    expect(moved.stderr).toBe('')
    expect(moved.stdout).toMatch(/^endpoint +9 +9 {2}([0-9a-f]{16}) {2}\1 {2}same$/m)
    const all = `rows of ${movingTables.length} tables moved, and read back as they were.`
    expect(moved.stdout.split('\n').some((line) => /^\d+ /.test(line) && line.endsWith(all))).toBe(
      true,
    )
    expect(moved.code).toBe(0)

    const well = await run(['doctor', '--data', target.url, '--schema', target.name])
    expect(well.stdout).toMatch(/^ +waiting +\d+$/m)
    expect(well.stdout).toContain('No problem found.')
    expect(well.code).toBe(0)
    const korean = await run([
      'doctor',
      '--data',
      target.url,
      '--schema',
      target.name,
      '--lang',
      'ko',
    ])
    expect(korean.stdout).toContain('문제가 없습니다.')

    const lose = ['done', 'event', 'batch', 'live where attempts > 0'].map(
      (rows) => `delete from ${target.name}.${rows}`,
    )
    await onServer(target.url, (client) => client.query(lose.join(';')))
    const broken = await run(['doctor', '--data', target.url, '--schema', target.name])
    for (const invariant of [
      'delivery_has_its_event',
      'attempt_has_its_delivery',
      'sealed_batch_is_whole',
      'event_id_has_its_event',
      'fan_out_has_its_event',
    ]) {
      expect(broken.stdout).toMatch(new RegExp(`^PROBLEM {2}${invariant}: \\d+ cases?$`, 'm'))
    }
    expect(broken.code).toBe(1)

    const again = await run(['migrate', '--from', `sqlite:${stage.dataFile}`, ...to])
    expect(again.stderr).toMatch(/^error: .* \[STORAGE_NOT_EMPTY\]\n$/)
    expect(again.code).toBe(1)
    await stage.open({ storage: sqlite({ path: stage.dataFile }) })
  })

  journey('keeps nothing after Ctrl-C', async (stage) => {
    await live(stage)
    const target = newPlace()
    await prepare(target)
    await onServer(target.url, async (client) => {
      await client.query('begin')
      await client.query(`lock table ${target.name}.event in row exclusive mode`)
      const from = ['--from', `sqlite:${stage.dataFile}`]
      const to = ['--to', target.url, '--schema', target.name]
      const { process: child, finished } = start(['migrate', ...from, ...to])
      const waits = `select 1 from pg_locks join pg_class on pg_class.oid = relation
                      where not granted and relnamespace = '${target.name}'::regnamespace`
      while ((await client.query(waits)).rowCount === 0) await new Promise(setImmediate)
      child.kill('SIGINT')
      await client.query('commit')
      const { code, stderr } = await finished
      expect(stderr).toContain('Stopped: nothing was kept in the new place')
      expect(code).toBe(130)
    })
    const { counts } = await auditPostgres(target.url, { schema: target.name })
    expect(counts.events).toBe(0)
    await openTarget(stage, target)
  })

  test.each([
    [['--from', 'postgres://user:hidden@h/db', '--to', 'postgres://h/db'], 'not back'],
    [['--from', 'data.db', '--to', 'postgres://h/db'], 'Expected --from sqlite:FILE'],
    [['--from', 'sqlite:none.db', '--to', 'mysql://user:hidden@h/db'], 'Expected --to postgres://'],
    [['--from', 'sqlite:none.db', '--to', 'postgres://h/db'], 'found no file at'],
  ])('%j is wrong usage', async (args, message) => {
    const { code, stderr } = await run(['migrate', ...args], { cwd: await emptyFolder() })
    expect(stderr).toContain(message)
    expect(stderr).not.toContain('hidden')
    expect(code).toBe(2)
  })

  test('refuses a schema that is not there or not ours, for doctor', async () => {
    const target = newPlace()
    const none = await run(['doctor', '--data', target.url, '--schema', target.name])
    expect(none.stderr).toMatch(/\[STORAGE_FOREIGN\]\n$/)
    expect(none.code).toBe(1)
    const file = await run(['doctor', '--data', 'x.db', '--schema', 'y'])
    expect(file.code).toBe(2)
  })
})
