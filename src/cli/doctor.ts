/** `kmsg-webhook doctor`: what a store holds and whether every invariant of it holds, too. */
import { type AuditReport, auditFile } from '../index.ts'
import { auditPostgres } from '../storage/postgres/index.ts'
import { exitCodes, UsageError } from './failure.ts'
import { count } from './figures.ts'
import { isDatabaseUrl, withoutPassword } from './places.ts'
import { displayWidth, printable } from './text-width.ts'
import type { Words } from './words.ts'

export interface DoctorOptions {
  /** A file, or the URL of a database. */
  readonly data: string
  readonly schema?: string | undefined
  readonly json: boolean
  readonly words: Words
}

export async function doctor({ data, schema, json, words }: DoctorOptions): Promise<number> {
  const report = await auditOf(data, schema)
  const missing = missingKeys(report, process.env.KMSG_WEBHOOK_ENCRYPTION_KEYS)
  const text = json
    ? JSON.stringify(report, null, 2)
    : reportLines(report, withoutPassword(data), missing, words).join('\n')
  process.stdout.write(`${text}\n`)
  return report.problems.length + missing.length === 0 ? exitCodes.well : exitCodes.failed
}

function auditOf(data: string, schema: string | undefined): Promise<AuditReport> {
  if (isDatabaseUrl(data)) return auditPostgres(data, { schema })
  if (schema === undefined) return auditFile(data)
  throw new UsageError('Expected --schema with the URL of a database in --data; a file has none.')
}

/** Ids of keys that stored secrets need and the environment lacks; unknown when it names none. */
export function missingKeys({ encryption }: AuditReport, variable = ''): string[] {
  if (variable.trim() === '') return []
  const given = variable.split(',').map((one) => one.trim().split(':')[0])
  return Object.keys(encryption).filter((id) => id !== '' && !given.includes(id))
}

export function reportLines(
  { counts, encryption, problems }: AuditReport,
  data: string,
  missing: readonly string[],
  { doctor: words }: Words,
): string[] {
  const counted = Object.entries(counts).map(
    ([name, n]) => [words.counts[name] ?? name, n] as const,
  )
  const figures = [
    ...counted,
    // An older key can be retired once no endpoint is counted under it.
    ...Object.entries(encryption).map(
      ([id, n]) => [id === '' ? words.unencrypted : words.underKey(printable(id)), n] as const,
    ),
  ]
  const wide = Math.max(0, ...counted.map(([name]) => displayWidth(name)))
  return [
    data,
    ...figures.map(([name, n]) => `  ${padEnd(name, wide)}  ${count(n).padStart(12)}`),
    ...missing.map((id) => `${words.problem}  ${words.lacksKey(printable(id))}`),
    ...problems.flatMap(({ invariant, count: cases, examples }) => [
      `${words.problem}  ${printable(invariant)}: ${words.cases(cases)}`,
      ...examples.map((example) => `  ${printable(example)}`),
    ]),
    lastLine(problems.length, missing.length, words),
  ]
}

/** By cells, and never cut. */
function padEnd(text: string, cells: number): string {
  return text + ' '.repeat(Math.max(0, cells - displayWidth(text)))
}

function lastLine(problems: number, missing: number, words: Words['doctor']): string {
  if (problems > 0) return words.broken(problems)
  return missing > 0 ? words.wouldNotStart : words.well
}
