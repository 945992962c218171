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
  const text = json ? JSON.stringify(report, null, 2) : reportLines(report, data).join('\n')
  process.stdout.write(`${text}\n`)
  return report.problems.length === 0 ? exitCodes.well : exitCodes.failed
}

export function reportLines({ counts, problems }: AuditReport, data: string): string[] {
  const names = Object.keys(counts)
  const wide = Math.max(0, ...names.map((name) => name.length))
  return [
    data,
    ...names.map((name) => `  ${name.padEnd(wide)}  ${count(counts[name] ?? 0).padStart(12)}`),
    ...problems.flatMap(({ invariant, count: times, examples }) => [
      `PROBLEM  ${printable(invariant)}: ${plural(times, 'case')}`,
      ...examples.map((example) => `  ${printable(example)}`),
    ]),
    problems.length === 0
      ? 'No problem found.'
      : `${plural(problems.length, 'invariant')} broken. Keep a copy of the file before anything else.`,
  ]
}
