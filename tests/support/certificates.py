"""A certificate authority for tests, and a certificate for 127.0.0.1 that it signed."""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Certificates:
    """Files in `folder`: the authority's certificate, and certificate and key of the server."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.ca, self.certificate, self.key = folder / "ca.pem", folder / "certificate.pem", folder / "key.pem"
        authority, mine = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"tests {folder.name}")])
        now = datetime.now(timezone.utc)

        def signed(subject: x509.Name, key: ec.EllipticCurvePublicKey, more: x509.ExtensionType) -> bytes:
            draft = (
                x509.CertificateBuilder()
                .subject_name(subject)
                .issuer_name(name)
                .public_key(key)
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - timedelta(days=1))
                .not_valid_after(now + timedelta(days=1))
                .add_extension(more, critical=isinstance(more, x509.BasicConstraints))
            )
            return draft.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

        local = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        server = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
        self.ca.write_bytes(signed(name, authority.public_key(), x509.BasicConstraints(ca=True, path_length=0)))
        self.certificate.write_bytes(signed(server, mine.public_key(), local))
        self.key.write_bytes(
            mine.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
