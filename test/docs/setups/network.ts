import { Authority } from '../../deliver/tls/certificates.ts'

const authority = new Authority()
const client = authority.certify('client')

export const companyCa = authority.cert
export const clientCert = client.cert
export const clientKey = client.key
