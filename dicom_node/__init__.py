"""The DICOM node: receives low-dose CT, has it denoised and sends the derived series back."""
