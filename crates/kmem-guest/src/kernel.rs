//! Extracts the ELF file from a vmlinuz.
//!
//! A vmlinuz is real-mode code, a decompressor, and the compressed kernel; its header says where the kernel begins (x86
//! boot protocol 2.08). QEMU can start the ELF file without the rest, if the file has a PVH note: no firmware, and no
//! decompression in an emulator.

use std::io::Read;

/// Byte offsets in the header, of little-endian numbers.
const SETUP_SECTORS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
const SECTOR: usize = 512;

/// Decompresses a vmlinuz that is compressed with LZ4 (Debian's cloud kernels 6.1) or Zstandard (6.12). An ELF file is
/// returned unchanged.
pub fn unpack(vmlinuz: &[u8]) -> Result<Vec<u8>, String> {
    if vmlinuz.starts_with(b"\x7fELF") {
        return Ok(vmlinuz.to_vec());
    }
    let word = |at: usize| -> Result<usize, String> {
        let bytes = vmlinuz.get(at..at + 4).ok_or("too short for a vmlinuz")?;
        Ok(u32::from_le_bytes(bytes.try_into().expect("four bytes")) as usize)
    };
    if vmlinuz.get(MAGIC..MAGIC + 4) != Some(b"HdrS") {
        return Err("not a vmlinuz: the boot header is missing".into());
    }
    let protected_mode = (usize::from(vmlinuz[SETUP_SECTORS]).max(1) + 1) * SECTOR;
    let begin = protected_mode + word(PAYLOAD_OFFSET)?;
    let packed = vmlinuz
        .get(begin..begin + word(PAYLOAD_LENGTH)?)
        .ok_or("the compressed kernel ends beyond the end of the file")?;
    let elf = match packed {
        [0x02, 0x21, 0x4c, 0x18, ..] => lz4(packed)?,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => zstandard(packed)?,
        _ => {
            return Err(format!(
                "compressed with something other than LZ4 or Zstandard (it begins with {:02x?}): decompress it, and give the \
                 ELF file",
                &packed[..packed.len().min(4)]
            ));
        }
    };
    if !elf.starts_with(b"\x7fELF") {
        return Err("the compressed kernel is not an ELF file".into());
    }
    Ok(elf)
}

/// LZ4 as kernels use it, the 'legacy frame': blocks of 8 MiB, each preceded by its length; the length of the whole is
/// at the end.
fn lz4(packed: &[u8]) -> Result<Vec<u8>, String> {
    const BLOCK: usize = 8 << 20;
    let mut elf = Vec::new();
    let mut rest = &packed[4..];
    while rest.len() > 4 {
        let (length, behind) = rest.split_at(4);
        let length = u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
        let block = behind.get(..length).ok_or("an LZ4 block ends beyond the end of the compressed kernel")?;
        elf.extend(lz4_flex::block::decompress(block, BLOCK).map_err(|e| format!("LZ4: {e}"))?);
        rest = &behind[length..];
    }
    Ok(elf)
}

/// One frame, followed by the length of the whole.
fn zstandard(packed: &[u8]) -> Result<Vec<u8>, String> {
    let mut elf = Vec::new();
    let mut frame = ruzstd::decoding::StreamingDecoder::new(packed).map_err(|e| format!("Zstandard: {e}"))?;
    frame.read_to_end(&mut elf).map_err(|e| format!("Zstandard: {e}"))?;
    Ok(elf)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vmlinuz(payload: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 3 * SECTOR];
        file[SETUP_SECTORS] = 1;
        file[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        file[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&(SECTOR as u32).to_le_bytes());
        file[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        file.extend(payload);
        file
    }

    #[test]
    fn what_lz4_packed_is_unpacked() {
        let elf: Vec<u8> = b"\x7fELF".iter().copied().chain((0..20_000u32).map(|i| (i % 7) as u8)).collect();
        let block = lz4_flex::block::compress(&elf);
        let mut payload = vec![0x02, 0x21, 0x4c, 0x18];
        payload.extend((block.len() as u32).to_le_bytes());
        payload.extend(&block);
        payload.extend((elf.len() as u32).to_le_bytes());
        assert_eq!(unpack(&vmlinuz(&payload)), Ok(elf));
    }

    #[test]
    fn what_cannot_be_unpacked_is_refused_with_the_reason() {
        assert!(unpack(b"MZ").unwrap_err().contains("boot header"));
        assert!(unpack(&vmlinuz(b"\xfd7zXZ\0")).unwrap_err().contains("fd, 37"));
        let mut cut = vmlinuz(&[0x02, 0x21, 0x4c, 0x18, 0, 0, 0, 9, 1]);
        assert!(unpack(&cut).unwrap_err().contains("LZ4 block"));
        cut.truncate(3 * SECTOR);
        assert!(unpack(&cut).unwrap_err().contains("end of the file"));
    }
}
