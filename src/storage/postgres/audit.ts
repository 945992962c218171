/** Checks every invariant, in one snapshot: writes that happen meanwhile are not seen half. */
import type { AuditProblem, AuditReport } from '../upkeep.ts'
import type { Connection, Database } from './connection.ts'
import { counts, invariants } from './invariants.ts'

const maxExamples = 10

/** Ids of keys are no secret: they say which key is still needed. */
const endpointsByKey = `
  select case when secrets like '"%' then split_part(substr(secrets, 2), ':', 1) else '' end as key,
         count(*) as endpoints
    from kmsg.endpoint where removed_at_ms is null group by 1 order by 1`

export async function audit(database: Database): Promise<AuditReport> {
  return await database.snapshot(async (connection) => {
    const counted: Record<string, number> = {}
    for (const [name, sql] of Object.entries(counts)) {
      counted[name] = (await connection.get<{ n: number }>(sql))?.n ?? 0
    }
    const rows = await connection.all<{ key: string; endpoints: number }>(endpointsByKey)
    return {
      counts: counted,
      encryption: Object.fromEntries(rows.map(({ key, endpoints }) => [key, endpoints])),
      problems: await checkRows(connection),
    }
  })
}

async function checkRows(connection: Connection): Promise<AuditProblem[]> {
  const problems: AuditProblem[] = []
  for (const { name, sql } of invariants) {
    const found = await connection.get<{ n: number }>(
      `select count(*) as n from (${sql}) as broken`,
    )
    const count = found?.n ?? 0
    if (count === 0) continue
    const rows = await connection.all<{ id: string }>(
      `select id from (${sql}) as broken limit ${maxExamples}`,
    )
    problems.push({ invariant: name, count, examples: rows.map(({ id }) => String(id)) })
  }
  return problems
}
