using System.Runtime.CompilerServices;

namespace Z1Coder.Trainer.Data;

/// <summary>Without this switch GZipStream takes data that is cut short for the end of the file, and records would be lost without a word.</summary>
internal static class StrictGzip
{
    /// <summary>Runs before any other code of this program; the switch is read at the first use of a compressed stream.</summary>
    [ModuleInitializer]
    internal static void Demand() => AppContext.SetSwitch("System.IO.Compression.UseStrictValidation", true);
}
