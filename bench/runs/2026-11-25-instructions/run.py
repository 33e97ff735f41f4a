"""Instructions per request of a gateway binary: callgrind over N and 3N requests on one keep-alive connection."""
import socket, subprocess, sys, time, re, os, tempfile
binary, toml_extra = sys.argv[1], (sys.argv[2] if len(sys.argv) > 2 else "")
origin = subprocess.Popen(["target/debug/named-origin", "127.0.0.1:0", "a"], stdout=subprocess.PIPE, text=True)
address = origin.stdout.readline().strip()
def total(count):
    d = tempfile.mkdtemp()
    port = socket.socket(); port.bind(("127.0.0.1", 0)); p = port.getsockname()[1]; port.close()
    up = toml_extra.replace("ORIGIN", address) or f'[[routes]]\nupstream = "{address}"\n'
    open(d + "/r.toml", "w").write(f'[server]\nlisten = "127.0.0.1:{p}"\nworkdir = "{d}/w"\n[status]\nlisten = "off"\n[log]\naccess = "off"\n[cores]\ncount = 1\ndriver = "epoll"\n' + up)
    g = subprocess.Popen(["valgrind", "--tool=callgrind", f"--callgrind-out-file={d}/cg", binary, "run", "-c", d + "/r.toml"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    for _ in range(400):
        try:
            s = socket.create_connection(("127.0.0.1", p)); break
        except OSError: time.sleep(0.1)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    req = b"GET /x HTTP/1.1\r\nHost: a.test\r\nUser-Agent: curl/8\r\nAccept: */*\r\n\r\n"
    for _ in range(count):
        s.sendall(req)
        got = b""
        while not got.endswith(b"\r\n\r\na"): got += s.recv(4096)
    s.close(); g.terminate(); err = g.communicate()[1]
    m = re.search(r"Collected : (\d+)", err)
    return int(m.group(1)), d
a, _ = total(1000); b, d = total(5000)
print(binary, "Ir/request", (b - a) / 4000, d)
origin.kill()
