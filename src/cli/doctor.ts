/** `kmsg-webhook doctor`: what a store holds and whether every invariant of it holds, too. */
import { type AuditReport, auditFile, WebhookError } from '../index.ts'
import { KeyRing } from '../security/key-ring.ts'
import { auditPostgres } from '../storage/postgres/index.ts'
import { exitCodes } from './failure.ts'
import { count } from './figures.ts'
import { isDatabaseUrl, withoutPassword, withoutSchema } from './places.ts'
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
  const keys = checkKeys(report, process.env[keysVariable])
  const text = json
    ? JSON.stringify({ ...report, keys }, null, 2)
    : reportLines(report, withoutPassword(data), keys, words).join('\n')
  process.stdout.write(`${text}\n`)
  return report.problems.length === 0 && wouldStart(keys) ? exitCodes.well : exitCodes.failed
}

async function auditOf(data: string, schema: string | undefined): Promise<AuditReport> {
  if (isDatabaseUrl(data)) return auditPostgres(data, { schema })
  return auditFile(withoutSchema(data, schema))
}

/** What a service would find in the environment that its stored secrets are encrypted with. */
export interface KeysReport {
  /** What it refuses them with; null when they are well-formed, or none is given. */
  readonly invalid: string | null
  /** Ids of keys that are needed and not given; none when no key is given, since an option may hold them. */
  readonly missing: readonly string[]
}

const keysVariable = 'KMSG_WEBHOOK_ENCRYPTION_KEYS'

export function checkKeys({ encryption }: AuditReport, variable = ''): KeysReport {
  const given = variable.split(',').map((one) => one.trim())
  const entries = given.filter((one) => one !== '')
  if (entries.length === 0) return { invalid: null, missing: [] }
  try {
    const { ids } = new KeyRing(entries, keysVariable)
    const needed = Object.keys(encryption).filter((id) => id !== '')
    return { invalid: null, missing: needed.filter((id) => !ids.includes(id)) }
  } catch (error) {
    if (!(error instanceof WebhookError)) throw error
    return { invalid: error.message, missing: [] }
  }
}

function wouldStart({ invalid, missing }: KeysReport): boolean {
  return invalid === null && missing.length === 0
}

export function reportLines(
  { counts, encryption, problems }: AuditReport,
  data: string,
  keys: KeysReport,
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
  const wide = Math.max(...figures.map(([name]) => displayWidth(name)))
  return [
    data,
    ...figures.map(([name, n]) => `  ${padEnd(name, wide)}  ${count(n).padStart(12)}`),
    ...(keys.invalid === null ? [] : [`${words.problem}  ${printable(keys.invalid)}`]),
    ...keys.missing.map((id) => `${words.problem}  ${words.lacksKey(printable(id))}`),
    ...problems.flatMap(({ invariant, count: cases, examples }) => [
      `${words.problem}  ${printable(invariant)}: ${words.cases(cases)}`,
      ...examples.map((example) => `  ${printable(example)}`),
    ]),
    lastLine(problems.length, keys, words),
  ]
}

/** By cells, and never cut. */
function padEnd(text: string, cells: number): string {
  return text + ' '.repeat(Math.max(0, cells - displayWidth(text)))
}

function lastLine(problems: number, keys: KeysReport, words: Words['doctor']): string {
  if (problems > 0) return words.broken(problems)
  return wouldStart(keys) ? words.well : words.wouldNotStart
}
