"use strict";
// Numbers as people read them. All of them take what /status has: seconds, bytes, shares of one.

const whole = (n) => Math.round(n).toLocaleString("en-GB");

const perSecond = (n) => (n > 0 && n < 9.95 ? n.toFixed(1) : whole(n)) + "/s";

const percent = (share) => Math.round(share * 100) + " %";

const three = (n) => (n < 9.95 ? n.toFixed(1) : whole(n));

function duration(seconds) {
  if (seconds < 0.00005) return "0 s";
  if (seconds < 0.001) return three(seconds * 1e3) + " ms";
  if (seconds < 0.9995) return (seconds < 0.00995 ? three(seconds * 1e3) : whole(seconds * 1e3)) + " ms";
  if (seconds < 120) return three(seconds) + " s";
  if (seconds < 7200) return whole(seconds / 60) + " min";
  if (seconds < 172800) return whole(seconds / 3600) + " h";
  return whole(seconds / 86400) + " d";
}

function bytes(n) {
  const units = ["B", "KB", "MB", "GB"];
  let unit = 0;
  for (; n >= 1000 && unit < 3; unit++) n /= 1000;
  return (unit ? three(n) : n) + " " + units[unit];
}

const clock = (at) => new Date(at * 1000).toLocaleTimeString("en-GB");

const plural = (n, one, many) => `${whole(n)} ${n === 1 ? one : many}`;

const sum = (list, of) => list.reduce((total, item) => total + of(item), 0);

const most = (list, of) => list.reduce((max, item) => Math.max(max, of(item)), 0);
