using System.Security.Cryptography;

namespace Z1Coder.Trainer.Checkpoints;

/// <summary>
/// Passes bytes on to a file and hashes them on the way. Two buffers take turns: while one is written, a second thread hashes it, so the
/// slower of disk and SHA-256 sets the pace, not their sum.
/// </summary>
internal sealed class HashingStream : Stream
{
    private const int BufferBytes = 4 << 20, FirstBytes = 64 << 10;

    private readonly Stream _file;
    private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
    private readonly byte[][] _buffers = [[], []];
    private Task _hashing = Task.CompletedTask;
    private int _active, _filled;
    private long _written;

    public HashingStream(Stream file) => _file = file;

    public override bool CanRead => false;

    public override bool CanSeek => false;

    public override bool CanWrite => true;

    public override long Length => _written + _filled;

    public override long Position
    {
        get => Length;
        set => throw new NotSupportedException("a checkpoint file is written in one pass");
    }

    /// <summary>Writes what is buffered; the lower-case hex SHA-256 of everything. Nothing may be written afterwards.</summary>
    public string Complete()
    {
        Pass();
        _hashing.GetAwaiter().GetResult();
        return Convert.ToHexStringLower(_hash.GetHashAndReset());
    }

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        while (buffer.Length > 0)
        {
            if (_buffers[_active].Length == 0)
            {
                _buffers[_active] = GC.AllocateUninitializedArray<byte>(_written == 0 ? FirstBytes : BufferBytes);      // small files cost little
            }

            var count = Math.Min(_buffers[_active].Length - _filled, buffer.Length);
            buffer[..count].CopyTo(_buffers[_active].AsSpan(_filled));
            _filled += count;
            buffer = buffer[count..];
            if (_filled == _buffers[_active].Length)
            {
                Pass();
            }
        }
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override void WriteByte(byte value) => Write([value]);

    /// <summary>Nothing: the store flushes once, to the medium, when the file is complete.</summary>
    public override void Flush()
    {
    }

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _hashing.GetAwaiter().GetResult();
            _hash.Dispose();
        }

        base.Dispose(disposing);
    }

    private void Pass()
    {
        if (_filled == 0)
        {
            return;
        }

        // the other buffer's hash must be in before this one's starts: order, and the buffer is free again
        _hashing.GetAwaiter().GetResult();
        var (buffer, count) = (_buffers[_active], _filled);
        if (count == BufferBytes)
        {
            _hashing = Task.Run(() => _hash.AppendData(buffer, 0, count));
        }
        else
        {
            _hash.AppendData(buffer, 0, count);
        }

        _file.Write(buffer, 0, count);
        _written += count;
        _buffers[_active] = buffer.Length == BufferBytes ? buffer : [];
        _active ^= 1;
        _filled = 0;
    }
}
