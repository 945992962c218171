// A fresh Redis per run, as people run it for queues: append-only file, synced every second.

import { execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { startProgram } from '../machine/child.mjs'
import { freePorts } from '../machine/ports.mjs'
import { Absent } from './absent.mjs'

export async function startRedis(directory) {
  try {
    execFileSync('redis-server', ['--version'], { stdio: 'ignore' })
  } catch {
    throw new Absent('redis-server is not installed (npm --prefix bench run servers)')
  }
  mkdirSync(directory, { recursive: true })
  const [port] = await freePorts(1)
  const flags = ['--port', port, '--bind', '127.0.0.1', '--dir', directory, '--save', '']
  const durable = ['--appendonly', 'yes', '--appendfsync', 'everysec']
  const server = await startProgram('redis-server', [...flags, ...durable].map(String), {
    ready: () => untilOpen(port),
  })
  return { pid: server.pid, connection: { host: '127.0.0.1', port }, stop: server.stop }
}

async function untilOpen(port) {
  for (let tries = 0; tries < 100; tries++) {
    const open = await new Promise((resolve) => {
      const socket = connect(port, '127.0.0.1', () => resolve(true))
      socket.on('error', () => resolve(false))
      socket.on('connect', () => socket.destroy())
    })
    if (open) return
    await sleep(50)
  }
  throw new Error('redis-server did not open its port within 5 s')
}
