/**
 * One file has one name. Log and lock lie beside the data file and are named after it, so two
 * processes that reach it by different names would not see each other, and both would write.
 */
import { readFileSync, statSync } from 'node:fs'
import { WebhookError } from '../../model/errors.ts'

/** @param location the real path of a file that exists; symbolic links are resolved already */
export function requireOneName(location: string): void {
  refuseOtherNames(location, statSync(location).nlink, mountsOfSystem())
}

/**
 * @param mounts as Linux has them in /proc/self/mountinfo
 * @throws WebhookError OPTION_INVALID
 */
export function refuseOtherNames(location: string, hardLinks: number, mounts: string): void {
  if (hardLinks > 1) {
    throw new WebhookError(
      'OPTION_INVALID',
      `Expected ${location} to have one name, got a file with ${hardLinks} hard links: a process that opened it by another one would write beside this one. Remove the others (find them with \`find DIR -samefile ${location}\`), or copy the file with backup() and use the copy.`,
    )
  }
  if (mountPoints(mounts).includes(location)) {
    throw new WebhookError(
      'OPTION_INVALID',
      `Expected ${location} to lie in a mounted folder, got a mount of that file alone: what was accepted last stands in the log beside it (${location}-wal), which would be gone with the container. Mount the folder it is in.`,
    )
  }
}

function mountsOfSystem(): string {
  try {
    return readFileSync('/proc/self/mountinfo', 'utf8')
  } catch {
    return '' // not Linux, or hidden: nothing is known of mounts
  }
}

/** The fifth field of every line; blanks in it are written as octal numbers. */
function mountPoints(mounts: string): string[] {
  return mounts.split('\n').flatMap((line) => {
    const point = line.split(' ')[4]
    if (point === undefined) return []
    return point.replaceAll(/\\(\d{3})/g, (_, octal) => String.fromCharCode(parseInt(octal, 8)))
  })
}
