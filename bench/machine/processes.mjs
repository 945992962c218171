// What a tree of processes has used, read from /proc. Owns no process and starts none.

import { readdirSync, readFileSync } from 'node:fs'

// Linux reports CPU times in ticks of 1/100 s to user space on every architecture Node runs on.
const MS_PER_TICK = 10

/**
 * CPU used by a process, its live descendants, and the children they have already reaped.
 *
 * PostgreSQL and Redis fork; a backend that has ended is found in its parent's `cutime`.
 */
export function treeCpuMs(rootPid) {
  let ticks = 0
  for (const pid of treeOf(rootPid)) {
    const stat = statFields(pid)
    if (stat) ticks += stat.utime + stat.stime + stat.cutime + stat.cstime
  }
  return ticks * MS_PER_TICK
}

/** CPU that the machine has given to anyone since it started, and what its host took from it. */
export function machineCpuMs() {
  const [user, nice, system, , , irq, softirq, steal] = readFileSync('/proc/stat', 'utf8')
    .split('\n', 1)[0]
    .split(/\s+/)
    .slice(1)
    .map(Number)
  return (user + nice + system + irq + softirq + steal) * MS_PER_TICK
}

/**
 * Memory of a tree in MB, as PSS: pages that several processes share (PostgreSQL's buffers)
 * are counted once, where a sum of RSS would count them once per backend.
 */
export function treeMemoryMb(rootPid) {
  let kb = 0
  for (const pid of treeOf(rootPid)) {
    const rollup = readOrNull(`/proc/${pid}/smaps_rollup`)
    kb += Number(rollup?.match(/^Pss:\s+(\d+) kB/m)?.[1] ?? 0)
  }
  return kb / 1024
}

function treeOf(rootPid) {
  const childrenOf = new Map()
  for (const name of readdirSync('/proc')) {
    const stat = /^\d+$/.test(name) ? statFields(name) : null
    if (!stat) continue
    if (!childrenOf.has(stat.ppid)) childrenOf.set(stat.ppid, [])
    childrenOf.get(stat.ppid).push(Number(name))
  }
  const tree = [rootPid]
  for (const pid of tree) tree.push(...(childrenOf.get(pid) ?? []))
  return tree
}

function statFields(pid) {
  const text = readOrNull(`/proc/${pid}/stat`)
  if (!text) return null
  // The second field is the command in parentheses and may hold spaces: count from its end.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return {
    ppid: Number(fields[1]),
    utime: Number(fields[11]),
    stime: Number(fields[12]),
    cutime: Number(fields[13]),
    cstime: Number(fields[14]),
  }
}

// A process may end between listing and reading.
function readOrNull(path) {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return null
  }
}
