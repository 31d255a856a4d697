namespace Z1Coder.Trainer.Model;

/// <summary>The linear layers of a decoder block.</summary>
internal enum LinearLayer
{
    /// <summary>D to (N + 2K) · H.</summary>
    Qkv,

    /// <summary>N · H to D.</summary>
    Output,

    /// <summary>D to 2F.</summary>
    GateUp,

    /// <summary>F to D.</summary>
    Down,
}
