// Unpacks the Chromium of `@sparticuz/chromium`: unpack.cjs FROM TO
'use strict';

const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { pipeline } = require('node:stream/promises');
const { createBrotliDecompress } = require('node:zlib');

const [from, to] = process.argv.slice(2);

const unpack = (name, place) =>
  pipeline(fs.createReadStream(path.join(from, name)), createBrotliDecompress(), fs.createWriteStream(place, { mode: 0o755 }));

async function main() {
  fs.mkdirSync(to, { recursive: true });
  await unpack('chromium.br', path.join(to, 'chromium'));
  for (const name of ['al2023', 'swiftshader']) {
    const archive = path.join(to, `${name}.tar`);
    await unpack(`${name}.tar.br`, archive);
    const { status } = spawnSync('tar', ['xf', archive, '-C', to], { stdio: 'inherit' });
    if (status !== 0) throw new Error(`${archive} cannot be unpacked`);
    fs.rmSync(archive);
  }
  // Its own libraries stand beside it.
  const start = '#!/bin/sh\nhere=$(dirname "$0")\nLD_LIBRARY_PATH=$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} exec "$here/chromium" "$@"\n';
  fs.writeFileSync(path.join(to, 'start'), start, { mode: 0o755 });
}

main();
