/** Checks every invariant, in one snapshot: writes that happen meanwhile are not seen half. */
import type { AuditProblem, AuditReport } from '../upkeep.ts'
import type { Connection } from './connection.ts'
import { counts, invariants } from './invariants.ts'

const maxExamples = 10

export function audit(connection: Connection): AuditReport {
  connection.database.exec('begin')
  try {
    const counted: Record<string, number> = {}
    for (const [name, sql] of Object.entries(counts)) {
      counted[name] = connection.get<{ n: number }>(sql)?.n ?? 0
    }
    const encryption = countByKey(connection)
    return {
      counts: counted,
      encryption,
      problems: [...checkFile(connection), ...checkRows(connection)],
    }
  } finally {
    connection.database.exec('rollback')
  }
}

/** Ids of keys are no secret: they say which key is still needed. */
const endpointsByKey = `
  select iif(json_type(secrets) = 'text', substr(secrets, 2, instr(secrets, ':') - 2), '') as key,
         count(*) as endpoints
    from endpoint where removed_at_ms is null group by 1 order by 1`

function countByKey(connection: Connection): Record<string, number> {
  const rows = connection.all<{ key: string; endpoints: number }>(endpointsByKey)
  return Object.fromEntries(rows.map(({ key, endpoints }) => [key, endpoints]))
}

function checkRows(connection: Connection): AuditProblem[] {
  const problems: AuditProblem[] = []
  for (const { name, sql } of invariants) {
    const count = connection.get<{ n: number }>(`select count(*) as n from (${sql})`)?.n ?? 0
    if (count === 0) continue
    const rows = connection.all<{ id: string }>(`select id from (${sql}) limit ${maxExamples}`)
    problems.push({ invariant: name, count, examples: rows.map(({ id }) => String(id)) })
  }
  return problems
}

/** Pages, indexes against their tables, CHECK and NOT NULL. */
function checkFile(connection: Connection): AuditProblem[] {
  const rows = connection
    .all<{ integrity_check: string }>(`pragma integrity_check(${maxExamples})`)
    .map((row) => row.integrity_check)
  if (rows[0] === 'ok') return []
  return [{ invariant: 'file_is_sound', count: rows.length, examples: rows }]
}
