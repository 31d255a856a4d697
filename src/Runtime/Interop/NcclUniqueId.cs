namespace Z1Coder.Runtime;

/// <summary>What the ranks of one communicator have in common: 128 bytes that one rank makes and the others are told.</summary>
internal unsafe struct NcclUniqueId
{
    /// <summary>NCCL_UNIQUE_ID_BYTES</summary>
    public const int Size = 128;

    private fixed byte _bytes[Size];

    /// <summary>The id that another rank made.</summary>
    public static NcclUniqueId From(ReadOnlySpan<byte> bytes)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(bytes.Length, Size);
        NcclUniqueId id;
        bytes.CopyTo(new Span<byte>(id._bytes, Size));
        return id;
    }

    /// <summary>The bytes for the others.</summary>
    public byte[] ToArray()
    {
        fixed (byte* bytes = _bytes)
        {
            return new ReadOnlySpan<byte>(bytes, Size).ToArray();
        }
    }
}
