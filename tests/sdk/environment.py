#!/usr/bin/env python3
"""Environment for SDK smoke tests: starts a hub with the scene of scene.json and prints what a suite needs to reach it.

    tests/sdk/environment.py FOLDER >environment.sh    a new folder; the hub goes on running
    . ./environment.sh                                 then run the suite
    FOLDER/stop                                        ends the hub

Beside the scene there are two leaf devices with certificates: `leaf-x509` by its thumbprint (and a second certificate
of that name which is nobody's), `leaf-ca` by a device CA. FOLDER/kill and FOLDER/start do what they say.
"""
import hashlib
import os
import shlex
import ssl
import subprocess
import sys

from hub import EDGE, GATEWAY, IOTHUB, PORTS, SCENE, WEIR, Hub

START = """#!/bin/sh
nohup {weir} run --config {config} >>{log} 2>&1 </dev/null &
pid=$!
for _ in $(seq 300); do
  grep -Eqs '"pid": ?'$pid'[,}}]' {ready} && exit 0
  kill -0 $pid 2>/dev/null || exit 1
  sleep 0.1
done
exit 1
"""
SIGNAL = """#!/bin/sh
pid=$(sed -nE 's/.*"pid": ?([0-9]+).*/\\1/p' {ready}) && [ -n "$pid" ] && kill -{signal} "$pid" || exit 1
for _ in $(seq 150); do kill -0 "$pid" 2>/dev/null || exit 0; sleep 0.1; done
exit 1
"""


def certificate(folder, file, name, signed_by=None):
    """A key and a certificate for `name`; self-signed, or by the CA of that file name."""
    key, cert = (os.path.join(folder, file + end) for end in (".key.pem", ".cert.pem"))
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-subj", "/CN=" + name, "-days", "30", "-keyout", key, "-out", cert]
    if signed_by:
        words += ["-CA", os.path.join(folder, signed_by + ".cert.pem")]
        words += ["-CAkey", os.path.join(folder, signed_by + ".key.pem")]
        words += ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "extendedKeyUsage=clientAuth"]
    subprocess.run(words, check=True, capture_output=True)
    return cert, key


def thumbprint(file):
    with open(file) as f:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(f.read())).hexdigest()


def provision(hub, folder):
    """Makes the scene; gives the variables that name what is secret."""
    found = {"WEIR_CS_" + name.upper(): hub.module(name) for name in SCENE["modules"]}
    found.update({"WEIR_CS_" + name.replace("-", "").upper(): hub.device(name) for name in SCENE["devices"]})
    for name, route in SCENE["routes"].items():
        hub.route(name, route)
    cert, key = certificate(folder, "x509", "leaf-x509")
    wrong_cert, wrong_key = certificate(folder, "x509-wrong", "leaf-x509")
    thumbprints = {"primaryThumbprint": thumbprint(cert), "secondaryThumbprint": None}
    self_signed = {"authentication": {"type": "selfSigned", "x509Thumbprint": thumbprints}}
    hub.api("PUT", "/devices/leaf-x509", self_signed)
    found.update(WEIR_X509_CERT=cert, WEIR_X509_KEY=key, WEIR_X509_DEVICE_ID="leaf-x509")
    found.update(WEIR_X509_WRONG_CERT=wrong_cert, WEIR_X509_WRONG_KEY=wrong_key)
    cert, key = certificate(folder, "x509-ca", "leaf-ca", signed_by="device-ca")
    hub.api("PUT", "/devices/leaf-ca", {"authentication": {"type": "certificateAuthority"}})
    found.update(WEIR_X509CA_CERT=cert, WEIR_X509CA_KEY=key, WEIR_X509CA_DEVICE_ID="leaf-ca")
    found["WEIR_SERVICE_CS"] = hub.service()
    return found


def write_scripts(hub, folder):
    ready = os.path.join(hub.data, "run", "ready.json")
    words = {"weir": os.path.abspath(WEIR), "config": hub.config, "log": os.path.join(folder, "weir.log"), "ready": ready}
    words = {name: shlex.quote(word) for name, word in words.items()}
    scripts = {"start": START.format(**words)}
    scripts["kill"] = SIGNAL.format(signal="KILL", **words)
    scripts["stop"] = SIGNAL.format(signal="TERM", **words)
    for name, text in scripts.items():
        path = os.path.join(folder, name)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, 0o755)


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    folder = os.path.abspath(sys.argv[1])
    os.makedirs(folder)
    certificate(folder, "device-ca", "devices of the smoke tests")
    authorities = '[security]\ndevice_ca_files = ["%s"]\n' % os.path.join(folder, "device-ca.cert.pem")
    hub = Hub(authorities, folder)
    variables = provision(hub, folder)
    listen = hub.listen
    assert hub.stop(keep=True) == 0, hub.tail()
    write_scripts(hub, folder)
    subprocess.run([os.path.join(folder, "start")], check=True, stdout=subprocess.DEVNULL)
    variables.update(WEIR_GATEWAY_HOST=GATEWAY, WEIR_IOTHUB_HOSTNAME=IOTHUB, WEIR_DIAL_ADDR="127.0.0.1")
    variables.update(WEIR_EDGE_DEVICE_ID=EDGE, WEIR_CA_FILE=os.path.join(hub.data, "pki", "trust-bundle.pem"))
    words = [WEIR, "edge-environment", "--config", hub.config, "--module", "sender"]
    for transport, more in [("HTTP", ["--http"]), ("UNIX", [])]:
        lines = subprocess.check_output(words + more, text=True, timeout=20).splitlines()
        environment = dict(line.split("=", 1) for line in lines)
        variables["WEIR_WORKLOAD_URI_" + transport] = environment["IOTEDGE_WORKLOADURI"]
        variables["WEIR_GENERATION_ID_SENDER"] = environment["IOTEDGE_MODULEGENERATIONID"]
    for name in PORTS:
        if name in listen:
            variables["WEIR_%s_PORT" % name.upper()] = listen[name].rsplit(":", 1)[1]
    variables["WEIR_KILL_CMD"], variables["WEIR_START_CMD"] = (os.path.join(folder, name) for name in ("kill", "start"))
    for name, value in sorted(variables.items()):
        print("export %s=%s" % (name, shlex.quote(value)))


if __name__ == "__main__":
    main()
