namespace Z1Coder.Trainer.Checkpoints;

/// <summary>Names and sizes of <see cref="SafetensorDtype"/>.</summary>
public static class SafetensorDtypes
{
    /// <summary>Every name that <see cref="TryParse"/> knows, for messages.</summary>
    internal const string Known = "BOOL, U8, I8, F8_E5M2, F8_E4M3, U16, I16, F16, BF16, U32, I32, F32, U64, I64, F64";

    /// <summary>Bytes per element.</summary>
    public static int Size(this SafetensorDtype dtype) => dtype switch
    {
        SafetensorDtype.Bool or SafetensorDtype.U8 or SafetensorDtype.I8 or SafetensorDtype.F8E5M2 or SafetensorDtype.F8E4M3 => 1,
        SafetensorDtype.U16 or SafetensorDtype.I16 or SafetensorDtype.F16 or SafetensorDtype.BF16 => 2,
        SafetensorDtype.U32 or SafetensorDtype.I32 or SafetensorDtype.F32 => 4,
        SafetensorDtype.U64 or SafetensorDtype.I64 or SafetensorDtype.F64 => 8,
        _ => throw new ArgumentOutOfRangeException(nameof(dtype), dtype, "not a safetensors dtype"),
    };

    /// <summary>The name in the header of a file: "F32", "BF16", "F8_E4M3", …</summary>
    public static string HeaderName(this SafetensorDtype dtype) => dtype switch
    {
        SafetensorDtype.Bool => "BOOL",
        SafetensorDtype.F8E5M2 => "F8_E5M2",
        SafetensorDtype.F8E4M3 => "F8_E4M3",
        _ => dtype.ToString(),
    };

    /// <summary>The dtype of a header name; false when there is none.</summary>
    public static bool TryParse(string name, out SafetensorDtype dtype)
    {
        (var known, dtype) = name switch
        {
            "BOOL" => (true, SafetensorDtype.Bool),
            "U8" => (true, SafetensorDtype.U8),
            "I8" => (true, SafetensorDtype.I8),
            "F8_E5M2" => (true, SafetensorDtype.F8E5M2),
            "F8_E4M3" => (true, SafetensorDtype.F8E4M3),
            "U16" => (true, SafetensorDtype.U16),
            "I16" => (true, SafetensorDtype.I16),
            "F16" => (true, SafetensorDtype.F16),
            "BF16" => (true, SafetensorDtype.BF16),
            "U32" => (true, SafetensorDtype.U32),
            "I32" => (true, SafetensorDtype.I32),
            "F32" => (true, SafetensorDtype.F32),
            "U64" => (true, SafetensorDtype.U64),
            "I64" => (true, SafetensorDtype.I64),
            "F64" => (true, SafetensorDtype.F64),
            _ => (false, default(SafetensorDtype)),
        };
        return known;
    }
}
