/** TLS settings of an endpoint: checked when they are written, so that no attempt fails by them. */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import type { EndpointTls } from '../model/endpoint.ts'
import { describeValue, WebhookError } from '../model/errors.ts'
import { refuseUnknown } from '../model/given.ts'

const fields = ['ca', 'cert', 'key'] as const
const maxLength = 65_536
const maskedValue = '***'

/** As reads show it: the private key is write-only. */
export function maskTls(tls: EndpointTls | null): EndpointTls | null {
  return tls?.key === undefined ? tls : { ...tls, key: maskedValue }
}

/** Undoes `maskTls` in what somebody read, changed and wrote back. */
export function unmaskTls(given: unknown, known: EndpointTls | null): unknown {
  const isMasked = (given as Partial<EndpointTls> | null | undefined)?.key === maskedValue
  return isMasked && known?.key !== undefined ? { ...(given as object), key: known.key } : given
}

/** @throws WebhookError ENDPOINT_INVALID, OPTION_UNKNOWN; no PEM text is ever part of the message */
export function checkEndpointTls(tls: unknown): void {
  if (tls === undefined || tls === null) return
  if (typeof tls !== 'object' || Array.isArray(tls)) {
    throw invalid(
      '`tls` to be null or an object with `ca`, or `cert` and `key`',
      describeValue(tls),
    )
  }
  const given = tls as Record<string, unknown>
  refuseUnknown(given, fields, 'a field of `tls`')
  for (const name of fields) {
    const pem = given[name]
    if (pem === undefined) continue
    if (typeof pem !== 'string' || pem.length > maxLength) {
      throw invalid(`\`tls.${name}\` to be PEM text of at most ${maxLength} characters`)
    }
  }
  checkPem(given as { [name in (typeof fields)[number]]?: string })
}

function checkPem({ ca, cert, key }: { [name in (typeof fields)[number]]?: string }): void {
  if ((cert === undefined) !== (key === undefined)) {
    throw invalid('`tls.cert` and `tls.key` to be given together', 'one of them')
  }
  if (ca !== undefined) certificate('ca', ca)
  if (cert === undefined || key === undefined) return
  const own = certificate('cert', cert)
  if (!own.checkPrivateKey(privateKey(key))) {
    throw invalid('`tls.key` to be the private key of `tls.cert`', 'the key of another certificate')
  }
}

function certificate(name: string, pem: string): X509Certificate {
  try {
    return new X509Certificate(pem)
  } catch {
    throw invalid(`\`tls.${name}\` to be a certificate in PEM ("-----BEGIN CERTIFICATE-----")`)
  }
}

function privateKey(pem: string) {
  try {
    return createPrivateKey(pem)
  } catch {
    throw invalid('`tls.key` to be a private key in PEM that is not encrypted')
  }
}

function invalid(expected: string, got = 'something else'): WebhookError {
  return new WebhookError('ENDPOINT_INVALID', `Expected ${expected}, got ${got}.`)
}
