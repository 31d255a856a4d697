namespace Z1Coder.Runtime;

/// <summary>Bytes of native memory that go to, or come from, one peer; none: nothing is exchanged with it in that direction.</summary>
/// <param name="Address">the first byte</param>
/// <param name="Bytes">how many</param>
internal readonly unsafe record struct ExchangePart(nint Address, long Bytes)
{
    public ExchangePart(byte* address, long bytes)
        : this((nint)address, bytes)
    {
    }

    public byte* Pointer => (byte*)Address;
}
