using System.Runtime.CompilerServices;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Tests.Trainer.Data;

/// <summary>The runner is not the program: it must start the program's module before a test opens a compressed stream, as `z1` itself does.</summary>
internal static class TrainerFirst
{
    [ModuleInitializer]
    internal static void Start() => RuntimeHelpers.RunModuleConstructor(typeof(SftReader).Module.ModuleHandle);
}
