'use strict';

const LOOPBACK = /^(::1|(::ffff:)?127\.\d+\.\d+\.\d+)$/;

function isLoopback(address) {
  return LOOPBACK.test(address || '');
}

// Only the proxy of this host is believed, and only what it wrote itself: the last address.
function clientAddress(request) {
  const peer = request.socket.remoteAddress || '';
  const forwarded = String(request.headers['x-forwarded-for'] || '').split(',').pop().trim();
  return isLoopback(peer) && forwarded ? forwarded : peer.replace(/^::ffff:/, '');
}

module.exports = { clientAddress, isLoopback };
