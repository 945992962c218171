/** `kmsg-webhook doctor`: what a data file holds and whether every invariant of it holds, too. */
import { type AuditReport, auditFile } from '../index.ts'
import { exitCodes } from './failure.ts'
import { count, plural } from './figures.ts'
import { printable } from './text-width.ts'

export interface DoctorOptions {
  readonly data: string
  readonly json: boolean
}

export async function doctor({ data, json }: DoctorOptions): Promise<number> {
  const report = await auditFile(data)
  const missing = missingKeys(report, process.env.KMSG_WEBHOOK_ENCRYPTION_KEYS)
  const text = json
    ? JSON.stringify(report, null, 2)
    : reportLines(report, data, missing).join('\n')
  process.stdout.write(`${text}\n`)
  return report.problems.length + missing.length === 0 ? exitCodes.well : exitCodes.failed
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
  missing: readonly string[] = [],
): string[] {
  const names = Object.keys(counts)
  const wide = Math.max(0, ...names.map((name) => name.length))
  return [
    data,
    ...names.map((name) => `  ${name.padEnd(wide)}  ${count(counts[name] ?? 0).padStart(12)}`),
    ...encryptionLines(encryption, wide),
    ...missing.map((id) => `PROBLEM  KMSG_WEBHOOK_ENCRYPTION_KEYS lacks the key ${printable(id)}`),
    ...problems.flatMap(({ invariant, count: times, examples }) => [
      `PROBLEM  ${printable(invariant)}: ${plural(times, 'case')}`,
      ...examples.map((example) => `  ${printable(example)}`),
    ]),
    lastLine(problems.length, missing.length),
  ]
}

function lastLine(problems: number, missing: number): string {
  if (problems > 0) {
    return `${plural(problems, 'invariant')} broken. Keep a copy of the file before anything else.`
  }
  return missing > 0 ? 'A service with these keys would not start.' : 'No problem found.'
}

/** An older key can be retired once no endpoint is counted under it. */
function encryptionLines(encryption: AuditReport['encryption'], wide: number): string[] {
  return Object.entries(encryption).map(([id, endpoints]) => {
    const name = id === '' ? 'unencrypted' : `under key ${printable(id)}`
    return `  ${name.padEnd(wide)}  ${count(endpoints).padStart(12)}`
  })
}
