// Several processes on one store, steady: each accepts its share, any delivers. The clock runs
// from the end of the warm-up to the last delivery of all; CPU is that of all processes and of the
// server, read from /proc.

import { fork } from 'node:child_process'
import { trackChild } from './machine/child.mjs'
import { monotonicMs } from './machine/clock.mjs'
import { treeCpuMs } from './machine/processes.mjs'

const LIMIT_MS = 5 * 60_000

/**
 * @param setup as for one process; `inFlight` is that of all together
 * @returns `{ perSecond, processCpuUs, serverCpuUs, roundTrips, smallestShare, delivered, peakRssMb }`
 */
export async function runFleet({ contender, processes, options, endpoints }, setup) {
  const { warmUp, events, backlog } = options
  const until = warmUp + events
  const members = []
  let tell
  const { promise: failed, reject: fail } = withResolvers()
  failed.catch(() => {})
  const timer = setTimeout(() => fail(new Error('the fleet hangs')), LIMIT_MS)
  try {
    // One after the other: the first creates the tables.
    for (let index = 0; index < processes; index++) {
      const member = startMember(fail)
      members.push(member)
      member.child.send({
        contender,
        setup: { ...setup, processes, inFlight: Math.ceil(setup.inFlight / processes) },
        share: {
          index,
          of: processes,
          until,
          endpoints,
          backlog,
          inFlight: Math.ceil(setup.inFlight / processes),
        },
      })
      await Promise.race([member.heard('opened'), failed])
    }
    const total = () => members.reduce((sum, member) => sum + member.own, 0)
    tell = setInterval(() => {
      for (const { child } of members) child.send({ delivered: total() })
    }, 10)
    const reached = async (count) => {
      while (total() < count) await Promise.race([nextMessage(members), failed])
    }
    const cpu = () => ({
      atMs: monotonicMs(),
      processes: members.reduce((sum, { child }) => sum + treeCpuMs(child.pid), 0),
      server: setup.serverPid ? treeCpuMs(setup.serverPid) : 0,
    })
    for (const { child } of members) child.send({ go: true })
    await reached(warmUp)
    const before = cpu()
    const measuredFrom = total()
    await reached(until)
    const after = cpu()
    const measured = until - measuredFrom
    clearInterval(tell)
    for (const { child } of members) child.send({ delivered: total(), stop: true })
    const ends = await Promise.race([
      Promise.all(members.map((member) => member.heard('closed'))),
      failed,
    ])
    const roundTrips = ends.reduce((sum, end) => sum + (end.roundTrips ?? Number.NaN), 0)
    return {
      perSecond: (measured * 1000) / (after.atMs - before.atMs),
      processCpuUs: ((after.processes - before.processes) * 1000) / measured,
      serverCpuUs: ((after.server - before.server) * 1000) / measured,
      ...(Number.isFinite(roundTrips) && { roundTrips: roundTrips / until }),
      smallestShare: Math.min(...members.map(({ own }) => own)) / total(),
      peakRssMb: ends.reduce((sum, end) => sum + end.peakRssMb, 0),
      delivered: total(),
    }
  } finally {
    clearTimeout(timer)
    clearInterval(tell)
    for (const { child } of members) if (child.exitCode === null) child.kill('SIGKILL')
  }
}

function startMember(fail) {
  const child = trackChild(fork(new URL('./workload/member.mjs', import.meta.url)))
  const member = { child, own: 0, closed: false, heard }
  const waiting = new Map()
  child.on('message', (message) => {
    if (message.error) fail(new Error(message.error.split('\n', 2).join(' ')))
    if (message.own !== undefined) member.own = message.own
    if (message.closed) member.closed = true
    for (const [word, resolve] of waiting) if (message[word]) resolve(message)
  })
  // After its last message: who has closed may be gone before the others have.
  child.once('close', (code, signal) => {
    if (!member.closed) fail(new Error(`a member ended early (${signal ?? code})`))
  })
  function heard(word) {
    return new Promise((resolve) => waiting.set(word, resolve))
  }
  return member
}

function nextMessage(members) {
  return new Promise((resolve) => {
    const done = () => {
      for (const { child } of members) child.off('message', done)
      resolve()
    }
    for (const { child } of members) child.on('message', done)
  })
}

// Node 20 has no Promise.withResolvers.
function withResolvers() {
  let resolve
  let reject
  const promise = new Promise((yes, no) => {
    resolve = yes
    reject = no
  })
  return { promise, resolve, reject }
}
